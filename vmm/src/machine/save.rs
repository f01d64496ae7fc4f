//! Saves a machine.
//!
//! ```text
//!   paused ── devices parked ── KVM's state ── first vCPU's state ── file written ──► over
//!     ▲            │                 │                │                   │
//!     └────────────┴─────────────────┴────────────────┴───────────────────┘ devices go on
//! ```
//!
//! Devices come first: what they still do writes to the guest's memory and raises interrupts.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::OwnedFd;

use kvm_bindings::CpuId;
use kvm_ioctls::{Kvm, VmFd};
use vmm_api::{BootConfig, KernelDigest, MachineConfig, Start};

use super::vcpus;
use crate::kvm::{KvmError, VmState};
use crate::saved::{self, Origin, SavedError, SavedMachine};
use crate::vcpu::{Extent, StateError, Vcpus};
use crate::windows::{WindowError, Windows};

/// A machine that was not saved. It is paused as before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    /// Its threads may not make the calls.
    #[error("the machine was not built to be saved: ask for it in the boot request")]
    NotToBeSaved,
    /// A device can't be saved as it is.
    #[error(transparent)]
    Device(#[from] WindowError),
    /// KVM does not tell its state.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// A vCPU can't be saved as it is.
    #[error(transparent)]
    Vcpu(#[from] StateError),
    /// The state can't be written.
    #[error(transparent)]
    File(#[from] SavedError),
}

/// What a machine that is to be saved must know of itself, found out before the jail.
#[derive(Debug)]
pub(super) struct Saver {
    origin: Origin,
    extent: Extent,
}

impl Saver {
    /// What saving a machine takes that was just made from these.
    ///
    /// # Errors
    /// [`KvmError::Operation`] if KVM does not list its registers.
    pub(super) fn new(
        kvm: &Kvm,
        vm: &VmFd,
        shape: &MachineConfig,
        kernel: KernelDigest,
        cpuids: &[CpuId],
    ) -> Result<Self, KvmError> {
        let cpuid = cpuids.first().map(|cpuid| cpuid.as_slice().to_vec()).unwrap_or_default();
        let extent = vcpus::extent(kvm, vm, &cpuid)?;
        Ok(Self { origin: Origin { shape: shape.clone(), kernel, cpuid }, extent })
    }

    /// What of a vCPU is saved.
    pub(super) fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Writes the state of the paused machine, which consists of these, to an empty file. It must
    /// not be resumed after that.
    ///
    /// # Errors
    /// [`SaveError`]; the machine is as before then.
    pub(super) fn save(
        &self,
        windows: &Windows,
        vm: &VmFd,
        vcpus: &Vcpus,
        file: OwnedFd,
    ) -> Result<(), SaveError> {
        let devices = windows.park()?;
        let write = || {
            let (vm, vcpu) = (VmState::save(vm)?, vcpus.save()?);
            let (origin, devices) = (self.origin.clone(), devices.clone());
            Ok(saved::write(file, &SavedMachine { origin, vcpu, vm, devices })?)
        };
        let written = write();
        if written.is_err() {
            windows.unpark(&devices);
        }
        written
    }
}

/// Refuses machines that can't be built to be saved.
///
/// # Errors
/// [`SavedError::NotToBeSaved`].
pub(super) fn check_request(config: &BootConfig) -> Result<(), SavedError> {
    if !config.to_be_saved {
        return Ok(());
    }
    if config.machine.early_serial() {
        // A byte that is on its way out would never be said to have gone.
        return Err(SavedError::NotToBeSaved("with an early serial console"));
    }
    match config.start {
        Start::Kernel(_) => Ok(()),
        // What it has written since is in no file.
        Start::Saved { .. } => Err(SavedError::NotToBeSaved("from a saved one")),
    }
}

/// The digest of a kernel, where it is needed.
///
/// # Errors
/// [`SavedError::File`] if the kernel can't be read.
pub(super) fn digest(
    to_be_saved: bool,
    kernel: &OwnedFd,
) -> Result<Option<KernelDigest>, SavedError> {
    let read = || {
        let mut kernel = File::from(kernel.try_clone()?);
        kernel.rewind()?;
        KernelDigest::of(kernel)
    };
    let failed = |error: io::Error| SavedError::File("digest the kernel for", error);
    to_be_saved.then(read).transpose().map_err(failed)
}
