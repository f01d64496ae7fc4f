//! A saved machine: what is in its state file, and whether this process can go on with it.
//!
//! A state is refused rather than mended. It is good for one build of the VMM, one kernel, one
//! processor as KVM shows it, and one shape. A machine for which any of these has changed is booted
//! and saved anew, which takes a second. Of a shape, only the number of vCPUs may become less.

mod file;

use kvm_bindings::kvm_cpuid_entry2;
use serde::{Deserialize, Serialize};
use virtio::mmio::TransportState;
use vmm_api::{DeviceConfig, KernelDigest, MachineConfig, Window};

use crate::devices::catalog;
use crate::kvm::VmState;
use crate::vcpu::VcpuState;

#[cfg(fuzzing)]
pub(crate) use file::{decode, encode, seal};
pub(crate) use file::{read, write};

/// A state that this process can't go on with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SavedError {
    /// The file can't be read or written.
    #[error("{0} the state of the saved machine")]
    File(&'static str, #[source] std::io::Error),
    /// The file is something else.
    #[error("the file is not the state of a saved machine")]
    NotSaved,
    /// The file has another layout.
    #[error("the state has format {0}, this VMM reads format {format}", format = file::FORMAT)]
    Format(u32),
    /// Another build of the VMM has written it.
    #[error("the machine was saved by another build of the VMM: save it anew with this one")]
    Build,
    /// The file is shorter or longer than it says.
    #[error(
        "the state has {found} bytes and says {expected}: it is cut off, save the machine anew"
    )]
    Length {
        /// Size of the file in bytes.
        found: u64,
        /// Size that its header says, or the largest there can be.
        expected: u64,
    },
    /// A byte of the file is not what was written.
    #[error("the state is damaged: its digest does not match, save the machine anew")]
    Damaged,
    /// The content makes no sense, although it is what was written.
    #[error("the state can't be understood")]
    Malformed(#[source] postcard::Error),
    /// The machine was booted from another kernel.
    #[error("the machine was booted from kernel {saved}, not from {asked}: save it anew")]
    Kernel {
        /// Kernel of the saved machine.
        saved: KernelDigest,
        /// Kernel that is asked for.
        asked: KernelDigest,
    },
    /// The machine has another shape.
    #[error("the saved machine's {what} is {saved}, asked for is {asked}: save one of this shape")]
    Shape {
        /// Which part.
        what: &'static str,
        /// What the saved machine has.
        saved: String,
        /// What is asked for.
        asked: String,
    },
    /// The host's processor, or what KVM shows of it, is another.
    #[error(
        "the saved machine's processor differs from this host's in CPUID leaf {leaf:#x}, subleaf \
         {subleaf}: save the machine anew on this host"
    )]
    Cpu {
        /// The first leaf that differs.
        leaf: u32,
        /// Its subleaf.
        subleaf: u32,
    },
    /// The request's first devices are not those of the saved machine.
    #[error("device {index} of the saved machine is {saved}, of the request {asked}")]
    Devices {
        /// Position in the request.
        index: usize,
        /// What the saved machine has.
        saved: &'static str,
        /// What is asked for.
        asked: &'static str,
    },
    /// A machine of this kind can't be one that is saved later.
    #[error("a machine {0} can't be built to be saved")]
    NotToBeSaved(&'static str),
}

/// A machine at the moment of its save, without its memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SavedMachine {
    /// What it was built from.
    pub(crate) origin: Origin,
    /// The first vCPU. The others were never started.
    pub(crate) vcpu: VcpuState,
    /// What KVM knows besides.
    pub(crate) vm: VmState,
    /// Its devices, by window.
    pub(crate) devices: Vec<(Window, TransportState)>,
}

/// What a machine was built from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Its shape.
    pub(crate) shape: MachineConfig,
    /// The kernel that was booted.
    pub(crate) kernel: KernelDigest,
    /// What the first vCPU says about itself, as it was set.
    pub(crate) cpuid: Vec<kvm_cpuid_entry2>,
}

impl SavedMachine {
    /// Checks that a request asks for this machine: `devices` may be more than were saved.
    ///
    /// # Errors
    /// [`SavedError::Kernel`], [`SavedError::Shape`] or [`SavedError::Devices`].
    pub(crate) fn check_request(
        &self,
        shape: &MachineConfig,
        kernel: KernelDigest,
        devices: &[DeviceConfig],
    ) -> Result<(), SavedError> {
        self.origin.check_shape(shape)?;
        if self.origin.kernel != kernel {
            return Err(SavedError::Kernel { saved: self.origin.kernel, asked: kernel });
        }
        for (index, (_, state)) in self.devices.iter().enumerate() {
            let asked = devices.get(index).map_or("none", catalog::name);
            let saved = catalog::name_of_type(state.device_id());
            if saved != asked {
                return Err(SavedError::Devices { index, saved, asked });
            }
        }
        Ok(())
    }

    /// Checks that the first vCPU would say the same about itself on this host.
    ///
    /// # Errors
    /// [`SavedError::Cpu`].
    pub(crate) fn check_cpu(&self, host: &[kvm_cpuid_entry2]) -> Result<(), SavedError> {
        let saved = &self.origin.cpuid;
        let first = saved.iter().zip(host).find(|(saved, host)| saved != host);
        let longer = || saved.get(host.len()).or(host.get(saved.len()));
        match first.map(|(saved, _)| saved).or_else(longer) {
            None => Ok(()),
            Some(entry) => Err(SavedError::Cpu { leaf: entry.function, subleaf: entry.index }),
        }
    }
}

impl Origin {
    /// Fewer vCPUs than were saved are as good: none but the first has ever run, and the guest
    /// takes those that do not answer for switched off.
    fn check_shape(&self, asked: &MachineConfig) -> Result<(), SavedError> {
        let saved = &self.shape;
        if asked.vcpus() > saved.vcpus() {
            let count = |shape: &MachineConfig| shape.vcpus().get().to_string();
            let what = "greatest number of vCPUs";
            return Err(SavedError::Shape { what, saved: count(saved), asked: count(asked) });
        }
        let parts = |shape: &MachineConfig| {
            [
                ("memory in MiB", shape.memory().get().to_string()),
                ("kernel command line", format!("{:?}", shape.extra_cmdline())),
                ("early serial console", shape.early_serial().to_string()),
            ]
        };
        let mut pairs = parts(saved).into_iter().zip(parts(asked));
        match pairs.find(|(saved, asked)| saved != asked) {
            None => Ok(()),
            Some(((what, saved), (_, asked))) => Err(SavedError::Shape { what, saved, asked }),
        }
    }
}

#[cfg(test)]
mod tests;
