//! Cold boot, from executing the VMM to the agent serving its ports: Cuddy's VMM against QEMU's
//! `microvm`. Both boot the same kernel and root filesystem with the same memory and devices.

mod cuddy;
mod qemu;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::samples::Samples;

/// Memory of the measured machines in MiB.
const MEMORY_MIB: u32 = 256;

/// A boot that takes longer than this under TCG has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// What `cuddy-vmm` tells the kernel of a machine with disk and console, word for word, so that
/// QEMU's guest knows the same and has to find out as much or as little.
pub(crate) const CMDLINE: &str = "panic=-1 maxcpus=1 tsc=reliable no_timer_check \
    8250.nr_uarts=0 console=hvc0 loglevel=5 root=/dev/vda ro rootfstype=erofs";

/// QEMU's machine: no legacy device, and ACPI tells of the virtio devices, as in Cuddy's.
pub(crate) const MICROVM: &str = "microvm,accel=kvm,acpi=on,pit=off,pic=off,rtc=off,isa-serial=off";

/// What else is alike: every feature of the host's CPU, a stable time stamp counter among them,
/// and devices that speak virtio 1 rather than what was before it.
pub(crate) const ALIKE: [&str; 4] =
    ["-cpu", "host,migratable=off", "-global", "virtio-mmio.force-legacy=false"];

/// What boots.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) vmm: PathBuf,
    pub(crate) kernel: PathBuf,
    rootfs: PathBuf,
}

impl Files {
    /// The files of a product installed at `prefix`.
    pub(crate) fn installed(prefix: &Path) -> Self {
        let share = prefix.join("share/cuddy");
        Self {
            vmm: prefix.join("bin/cuddy-vmm"),
            kernel: share.join("vmlinux"),
            rootfs: share.join("rootfs.erofs"),
        }
    }
}

/// Seconds from executing the VMM to the agent's being ready.
#[derive(Debug)]
pub(crate) struct BootTimes {
    /// Cuddy's VMM.
    pub(crate) cuddy: Samples,
    /// QEMU's `microvm` machine.
    pub(crate) qemu: Samples,
}

/// Boots each kind of machine `runs` times.
pub(crate) fn measure(files: &Files, runs: u32) -> Result<BootTimes> {
    Ok(BootTimes {
        cuddy: Samples::take(runs, || Ok(cuddy::boot(files)?.as_secs_f64()))?,
        qemu: Samples::take(runs, || Ok(qemu::boot(files)?.as_secs_f64()))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kernels_are_told_the_same() {
        let words = |text: &str| text.split([' ', '"']).map(str::to_owned).collect::<Vec<_>>();
        let said = words(include_str!("../../../vmm/src/boot.rs"));
        for word in words(CMDLINE) {
            assert!(said.contains(&word), "cuddy-vmm does not say {word}");
        }
    }
}
