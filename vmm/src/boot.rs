//! Puts a kernel, its command line and its parameters into a guest's memory.

mod generation;
mod kernel;

use std::io;
use std::os::fd::OwnedFd;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_api::{DeviceConfig, MachineConfig};

pub(crate) use generation::renew as renew_generation;

use crate::arch::x86_64::{acpi, entry, layout, zero_page};
use crate::memory::huge;

/// A kernel that can't be booted. Each message tells what was given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// The file can't be read.
    #[error("read the kernel")]
    Read(#[source] io::Error),
    /// The file is shorter than an ELF header.
    #[error("kernel is not an ELF file: only {0} bytes long")]
    Short(usize),
    /// The file does not start like an ELF file.
    #[error("kernel is not an ELF file: give an uncompressed vmlinux{0}")]
    NotElf(&'static str),
    /// The file is ELF, but not a program for this processor.
    #[error("kernel is not a 64-bit x86-64 executable: {0}")]
    Architecture(String),
    /// A segment is cut off.
    #[error("kernel is truncated: has {length} bytes, names {needed}; build or install it again")]
    Truncated {
        /// Size of the file in bytes.
        length: u64,
        /// Where its segment ends in the file.
        needed: u64,
    },
    /// A segment does not fit into the memory.
    #[error("kernel needs {size} bytes at {address:#x}, where the machine has no free memory")]
    Segment {
        /// Where it is to be loaded.
        address: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// The entry point is in nothing that was loaded.
    #[error("kernel entry {entry:#x} is outside of what it loads, which ends at {end:#x}")]
    Entry {
        /// The entry point.
        entry: u64,
        /// End of the loaded kernel.
        end: u64,
    },
    /// The command line is longer than Linux reads.
    #[error("kernel command line has {0} bytes, Linux reads 2047")]
    Cmdline(usize),
    /// The tables don't fit.
    #[error(transparent)]
    Acpi(#[from] acpi::TooLarge),
    /// The host gives no random bytes.
    #[error("draw a generation ID")]
    Random(#[source] io::Error),
    /// A structure does not fit the memory.
    #[error("write boot structures")]
    Write(#[source] vm_memory::GuestMemoryError),
}

/// Loads everything and returns the kernel's entry point.
///
/// # Errors
/// [`BootError`] with what is wrong with the kernel.
pub(crate) fn load(
    memory: &GuestMemoryMmap,
    kernel: OwnedFd,
    config: &MachineConfig,
    devices: &[DeviceConfig],
) -> Result<u64, BootError> {
    let entry = kernel::load(memory, kernel)?;
    if let Some(part) = layout::first_allocations(config.memory().bytes()) {
        huge::ask_for(memory, part);
    }
    let words = cmdline(config, devices);
    if words.len() >= layout::CMDLINE_MAX {
        return Err(BootError::Cmdline(words.len()));
    }
    // Checked to be below 2048.
    let length = u32::try_from(words.len()).unwrap_or(0);
    let put = |address, bytes: &[u8]| {
        memory.write_slice(bytes, GuestAddress(address)).map_err(BootError::Write)
    };
    put(layout::CMDLINE, words.as_bytes())?;
    put(layout::CMDLINE + u64::from(length), &[0])?;
    put(layout::ZERO_PAGE, &zero_page::build(config.memory().bytes(), length))?;
    put(layout::GDT, &entry::gdt())?;
    for (address, table) in entry::page_tables() {
        put(address, &table)?;
    }
    let tables = acpi::tables(config.vcpus().get(), config.early_serial())?;
    put(layout::ACPI.start, &tables)?;
    renew_generation(memory)?;
    Ok(entry)
}

/// The kernel's command line: what the machine needs said, then the client's words, so that
/// these win where Linux takes the last of two.
fn cmdline(config: &MachineConfig, devices: &[DeviceConfig]) -> String {
    let has = |kind: fn(&DeviceConfig) -> bool| devices.iter().any(kind);
    let mut words = vec![
        // A crashed guest resets itself at once, in case the panic device was not listened to.
        "panic=-1",
        // All vCPUs are present; the agent brings more than one online.
        "maxcpus=1",
        // KVM's clock is stable; do not wait to find out.
        "tsc=reliable",
        "no_timer_check",
        // What waits until no CPU uses something any more does not wait for the next tick.
        "rcupdate.rcu_expedited=1",
        // Memory of each CPU's own comes in units of what they use, not of 2 MiB: for each unit of the
        // latter Linux clears 4 MiB of accounts of who has which part.
        "percpu_alloc=page",
    ];
    if config.early_serial() {
        words.extend(["earlyprintk=ttyS0,115200", "console=ttyS0"]);
    } else {
        // Otherwise the driver looks for a port that is not there.
        words.push("8250.nr_uarts=0");
    }
    if has(|device| matches!(device, DeviceConfig::Console { .. })) {
        // Warnings and worse only: every line costs an exit or two.
        words.extend(["console=hvc0", "loglevel=5"]);
    }
    if has(|device| matches!(device, DeviceConfig::Block(_))) {
        words.extend(["root=/dev/vda", "ro", "rootfstype=erofs"]);
    }
    if !config.extra_cmdline().is_empty() {
        words.push(config.extra_cmdline());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests;
