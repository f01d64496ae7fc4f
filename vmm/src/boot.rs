//! Puts a kernel, its command line and its parameters into a guest's memory.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;

use linux_loader::loader::{Elf, KernelLoader};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};
use vmm_api::{DeviceConfig, MachineConfig};

use crate::arch::x86_64::{acpi, entry, layout, zero_page};

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
    /// A segment is cut off, or does not fit into the memory.
    #[error("load the kernel: the file is truncated, or needs more memory than the machine has")]
    Load(#[source] linux_loader::loader::Error),
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
    /// A structure does not fit the memory.
    #[error("write boot structures")]
    Write(#[source] vm_memory::GuestMemoryError),
}

/// Size of an ELF header.
const ELF_HEADER: usize = 64;

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
    let entry = load_kernel(memory, File::from(kernel))?;
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
    Ok(entry)
}

fn load_kernel(memory: &GuestMemoryMmap, mut file: File) -> Result<u64, BootError> {
    let header = read_header(&mut file)?;
    check_header(&header)?;
    let lowest = Some(GuestAddress(layout::HIGH_MEMORY));
    let loaded = Elf::load(memory, None, &mut file, lowest).map_err(BootError::Load)?;
    let entry = loaded.kernel_load.raw_value();
    let end = loaded.kernel_end;
    if entry >= end || !memory.address_in_range(loaded.kernel_load) {
        return Err(BootError::Entry { entry, end });
    }
    Ok(entry)
}

fn read_header(file: &mut File) -> Result<[u8; ELF_HEADER], BootError> {
    let mut header = [0; ELF_HEADER];
    file.rewind().map_err(BootError::Read)?;
    let mut length = 0;
    while length < ELF_HEADER {
        match file.read(&mut header[length..]).map_err(BootError::Read)? {
            0 => return Err(BootError::Short(length)),
            more => length += more,
        }
    }
    Ok(header)
}

/// Checks the ELF header's own words about itself (ELF specification, "ELF header").
fn check_header(header: &[u8; ELF_HEADER]) -> Result<(), BootError> {
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    const EXECUTABLE: u16 = 2;
    const X86_64: u16 = 62;
    if &header[..4] != b"\x7fELF" {
        let compressed = &header[..2] == b"MZ" || header[..2] == [0x1f, 0x8b];
        return Err(BootError::NotElf(if compressed { ", not a bzImage" } else { "" }));
    }
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let (class, endian, kind, machine) = (header[4], header[5], half(16), half(18));
    if (class, endian, kind, machine) != (CLASS_64, LITTLE_ENDIAN, EXECUTABLE, X86_64) {
        let found = format!("class {class}, byte order {endian}, type {kind}, machine {machine}");
        return Err(BootError::Architecture(found));
    }
    Ok(())
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
    ];
    if config.early_serial() {
        words.extend(["earlyprintk=ttyS0,115200", "console=ttyS0"]);
    } else {
        // Otherwise the driver looks for a port that is not there.
        words.push("8250.nr_uarts=0");
    }
    if has(|device| matches!(device, DeviceConfig::Console { .. })) {
        words.push("console=hvc0");
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
