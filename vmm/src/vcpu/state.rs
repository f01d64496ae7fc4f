//! The state of the one vCPU that runs when a machine is saved.
//!
//! The guest boots with one CPU; the agent brings the others online, which it does not in a machine
//! that is to be saved. So the others have no state: they are made as for any machine.
//!
//! The order of the calls is KVM's own trap; [`SAVE`] and [`RESTORE`] say it with the reasons.

mod xsave;

use kvm_bindings::{
    KVM_MP_STATE_UNINITIALIZED, Msrs, kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry,
    kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};

use crate::arch::x86_64::kept_msrs::{self, Msr};
use crate::kvm::KvmError;

pub(crate) use xsave::words as xsave_words;

/// Why a vCPU's state can't be read, or not be given to a vCPU of this host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// A call to KVM failed.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// A vCPU besides the first has been started.
    #[error("vCPU {0} has been started: only a machine with one CPU online can be saved")]
    Started(u8),
    /// A register can't be read or set.
    #[error(
        "{action} register {index:#x}: this host's KVM does not take what the saved machine has; \
         save the machine anew on this host"
    )]
    Msr {
        /// What was being done.
        action: &'static str,
        /// Number of the register.
        index: u32,
    },
    /// The host saves more or fewer of the processor's registers.
    #[error(
        "the saved machine has {saved} bytes of extended registers, this host's KVM {host}: \
         save the machine anew on this host"
    )]
    Extended {
        /// Size in the saved state in bytes.
        saved: usize,
        /// Size on this host in bytes.
        host: usize,
    },
    /// The processor's clock has another rate, and KVM can't pretend.
    #[error(
        "the saved machine's time-stamp counter runs at {saved} kHz, this host's at {host} kHz, \
         and its KVM can't scale it: save the machine anew on this host"
    )]
    Tsc {
        /// Rate of the saved machine.
        saved: u32,
        /// Rate of this host.
        host: u32,
    },
    /// The thread of a vCPU ended while its state was asked for.
    #[error("vCPU {0} has ended")]
    Gone(u8),
}

/// A part of a vCPU's state, and the call that reads or sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    MpState,
    Regs,
    Sregs,
    Xsave,
    Xcrs,
    DebugRegs,
    Lapic,
    TscRate,
    Msrs,
    Events,
}

/// The order of reading.
/// - The multiprocessing state first: reading it takes pending INITs in, which changes the APIC.
/// - Events last: the other calls may deliver what is pending.
const SAVE: [Part; 10] = [
    Part::MpState,
    Part::Regs,
    Part::Sregs,
    Part::Xsave,
    Part::Xcrs,
    Part::DebugRegs,
    Part::Lapic,
    Part::TscRate,
    Part::Msrs,
    Part::Events,
];

/// The order of setting.
/// - The counter's rate first: the counter and its deadline are converted by it.
/// - System registers before the local APIC: they hold its base and whether it is on.
/// - The local APIC before the other registers: without its timer's mode KVM drops the deadline.
/// - Events last: setting the general registers clears pending exceptions.
const RESTORE: [Part; 10] = [
    Part::TscRate,
    Part::MpState,
    Part::Regs,
    Part::Sregs,
    Part::Xsave,
    Part::Xcrs,
    Part::DebugRegs,
    Part::Lapic,
    Part::Msrs,
    Part::Events,
];

/// The state of a vCPU.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct VcpuState {
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: Vec<u32>,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    tsc_khz: u32,
    msrs: Vec<Msr>,
    events: kvm_vcpu_events,
}

/// What of a vCPU is to be read.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    /// The model-specific registers.
    pub(crate) msrs: Vec<u32>,
    /// Number of 4-byte words of the extended registers (see [`xsave_words`]).
    pub(crate) xsave_words: usize,
}

impl VcpuState {
    /// Reads the state of a vCPU that is not in the guest, and has left it for the gate: what it
    /// had begun to read or write outside is complete then.
    ///
    /// # Errors
    /// [`StateError`].
    pub(super) fn save(vcpu: &VcpuFd, extent: &Extent) -> Result<Self, StateError> {
        let mut state = Self::default();
        SAVE.iter().try_for_each(|part| state.read(*part, vcpu, extent))?;
        Ok(state)
    }

    /// Gives the state to a new vCPU that has its CPUID, in a machine that has its memory: some
    /// registers hold addresses that KVM looks up when they are set.
    ///
    /// # Errors
    /// [`StateError`]; the vCPU is in no defined state then.
    pub(crate) fn restore(&self, vcpu: &VcpuFd, extent: &Extent) -> Result<(), StateError> {
        RESTORE.iter().try_for_each(|part| self.write(*part, vcpu, extent))
    }

    /// The time-stamp counter, which all vCPUs of a machine share.
    pub(crate) fn tsc(&self) -> Option<u64> {
        let tsc = self.msrs.iter().find(|(index, _)| *index == kept_msrs::TSC);
        tsc.map(|(_, value)| *value)
    }

    fn read(&mut self, part: Part, vcpu: &VcpuFd, extent: &Extent) -> Result<(), StateError> {
        let failed = |error: kvm_ioctls::Error| KvmError::Operation {
            action: part.reading(),
            source: error.into(),
        };
        match part {
            Part::MpState => self.mp_state = vcpu.get_mp_state().map_err(failed)?,
            Part::Regs => self.regs = vcpu.get_regs().map_err(failed)?,
            Part::Sregs => self.sregs = vcpu.get_sregs().map_err(failed)?,
            Part::Xsave => self.xsave = xsave::read(vcpu, extent.xsave_words).map_err(failed)?,
            Part::Xcrs => self.xcrs = vcpu.get_xcrs().map_err(failed)?,
            Part::DebugRegs => self.debug = vcpu.get_debug_regs().map_err(failed)?,
            Part::Lapic => self.lapic = vcpu.get_lapic().map_err(failed)?,
            Part::TscRate => self.tsc_khz = vcpu.get_tsc_khz().map_err(failed)?,
            Part::Msrs => self.msrs = read_msrs(vcpu, &extent.msrs)?,
            Part::Events => self.events = vcpu.get_vcpu_events().map_err(failed)?,
        }
        Ok(())
    }

    fn write(&self, part: Part, vcpu: &VcpuFd, extent: &Extent) -> Result<(), StateError> {
        let failed = |error: kvm_ioctls::Error| KvmError::Operation {
            action: part.setting(),
            source: error.into(),
        };
        match part {
            Part::MpState => vcpu.set_mp_state(self.mp_state).map_err(failed)?,
            Part::Regs => vcpu.set_regs(&self.regs).map_err(failed)?,
            Part::Sregs => vcpu.set_sregs(&self.sregs).map_err(failed)?,
            Part::Xsave => {
                check_extended(self.xsave.len(), extent.xsave_words)?;
                xsave::write(vcpu, &self.xsave).map_err(failed)?;
            }
            Part::Xcrs => vcpu.set_xcrs(&self.xcrs).map_err(failed)?,
            Part::DebugRegs => vcpu.set_debug_regs(&self.debug).map_err(failed)?,
            Part::Lapic => vcpu.set_lapic(&self.lapic).map_err(failed)?,
            Part::TscRate => self.match_rate(vcpu)?,
            Part::Msrs => {
                check_known(&self.msrs, &extent.msrs)?;
                kept_msrs::steps(&self.msrs).iter().try_for_each(|step| write_msrs(vcpu, step))?;
            }
            Part::Events => vcpu.set_vcpu_events(&self.events).map_err(failed)?,
        }
        Ok(())
    }

    /// Has the counter run at the saved rate, where that differs by more than clocks do.
    fn match_rate(&self, vcpu: &VcpuFd) -> Result<(), StateError> {
        let host = vcpu.get_tsc_khz().unwrap_or(0);
        if same_rate(self.tsc_khz, host) || vcpu.set_tsc_khz(self.tsc_khz).is_ok() {
            return Ok(());
        }
        Err(StateError::Tsc { saved: self.tsc_khz, host })
    }
}

impl Part {
    fn reading(self) -> &'static str {
        match self {
            Self::MpState => "read the vCPU's multiprocessing state",
            Self::Regs => "read the vCPU's registers",
            Self::Sregs => "read the vCPU's system registers",
            Self::Xsave => "read the vCPU's extended registers",
            Self::Xcrs => "read the vCPU's extended control registers",
            Self::DebugRegs => "read the vCPU's debug registers",
            Self::Lapic => "read the vCPU's local APIC",
            Self::TscRate => "read the rate of the vCPU's time-stamp counter",
            Self::Msrs => "read the vCPU's model-specific registers",
            Self::Events => "read the vCPU's events",
        }
    }

    fn setting(self) -> &'static str {
        match self {
            Self::MpState => "set the vCPU's multiprocessing state",
            Self::Regs => "set the vCPU's registers",
            Self::Sregs => "set the vCPU's system registers",
            Self::Xsave => "set the vCPU's extended registers",
            Self::Xcrs => "set the vCPU's extended control registers",
            Self::DebugRegs => "set the vCPU's debug registers",
            Self::Lapic => "set the vCPU's local APIC",
            Self::TscRate => "set the rate of the vCPU's time-stamp counter",
            Self::Msrs => "set the vCPU's model-specific registers",
            Self::Events => "set the vCPU's events",
        }
    }
}

/// Checks that the vCPU `index`, which is not the first, was never started.
///
/// # Errors
/// [`StateError::Started`].
pub(super) fn check_unstarted(vcpu: &VcpuFd, index: u8) -> Result<(), StateError> {
    let state = vcpu.get_mp_state().map_err(|error| KvmError::Operation {
        action: Part::MpState.reading(),
        source: error.into(),
    })?;
    let unstarted = state.mp_state == KVM_MP_STATE_UNINITIALIZED;
    if unstarted { Ok(()) } else { Err(StateError::Started(index)) }
}

/// Gives a vCPU the counter of the first one. KVM takes the two for the same then, and keeps them
/// exactly alike.
///
/// # Errors
/// [`StateError`].
pub(crate) fn share_tsc(vcpu: &VcpuFd, tsc: u64) -> Result<(), StateError> {
    write_msrs(vcpu, &[(kept_msrs::TSC, tsc)])
}

fn check_extended(saved: usize, host: usize) -> Result<(), StateError> {
    if saved == host {
        return Ok(());
    }
    let bytes = size_of::<u32>();
    Err(StateError::Extended { saved: saved * bytes, host: host * bytes })
}

/// Checks that no register is set that would not be saved on this host.
fn check_known(msrs: &[Msr], known: &[u32]) -> Result<(), StateError> {
    match msrs.iter().find(|(index, _)| !known.contains(index)) {
        None => Ok(()),
        Some(&(index, _)) => Err(StateError::Msr { action: "set", index }),
    }
}

/// Whether two rates differ by no more than 250 parts per million, as those of one host do from one
/// boot to another.
fn same_rate(saved: u32, host: u32) -> bool {
    u64::from(saved.abs_diff(host)) * 1_000_000 <= u64::from(host) * 250
}

fn read_msrs(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<Msr>, StateError> {
    let wanted: Vec<Msr> = indices.iter().map(|index| (*index, 0)).collect();
    let mut table = table(&wanted)?;
    let count = vcpu.get_msrs(&mut table).map_err(|error| KvmError::Operation {
        action: Part::Msrs.reading(),
        source: error.into(),
    })?;
    let read: Vec<Msr> = table.as_slice().iter().map(|msr| (msr.index, msr.data)).collect();
    complete("read", &read, count)?;
    Ok(read)
}

fn write_msrs(vcpu: &VcpuFd, msrs: &[Msr]) -> Result<(), StateError> {
    if msrs.is_empty() {
        return Ok(());
    }
    let table = table(msrs)?;
    let count = vcpu.set_msrs(&table).map_err(|error| KvmError::Operation {
        action: Part::Msrs.setting(),
        source: error.into(),
    })?;
    complete("set", msrs, count)
}

fn table(msrs: &[Msr]) -> Result<Msrs, StateError> {
    let entry = |&(index, data): &Msr| kvm_msr_entry { index, data, ..Default::default() };
    let entries: Vec<_> = msrs.iter().map(entry).collect();
    let table = Msrs::from_entries(&entries);
    Ok(table.map_err(|_| KvmError::Lacks("room for so many model-specific registers"))?)
}

/// KVM stops at the first register that it does not take. A vCPU without the rest would go wrong in
/// ways that nobody could trace.
fn complete(action: &'static str, msrs: &[Msr], count: usize) -> Result<(), StateError> {
    match msrs.get(count) {
        None => Ok(()),
        Some(&(index, _)) => Err(StateError::Msr { action, index }),
    }
}

#[cfg(test)]
mod tests;
