//! Cold boot, from executing the VMM to the agent serving its ports, of the same kernel and
//! root filesystem with the same memory and devices: Cuddy's VMM against QEMU's `microvm`.

mod cuddy;
mod qemu;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::samples::Samples;

/// Memory of the measured machines in MiB.
const MEMORY_MIB: u32 = 256;

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
