//! The vCPUs of a machine before they have threads.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use crate::arch::x86_64::{cpuid, entry, kept_msrs, layout, msrs};
use crate::kvm::{self, KvmError, operation};
use crate::saved::SavedMachine;
use crate::vcpu::{self, StateError};

/// What each of `count` vCPUs says about itself on this host.
///
/// # Errors
/// [`KvmError`] if KVM does not say what it supports, or that is too much.
pub(super) fn cpuids(kvm: &Kvm, count: u8) -> Result<Vec<CpuId>, KvmError> {
    let supported = kvm::supported_cpuid(kvm)?;
    let place = |index| cpuid::of_vcpu(&supported, cpuid::Place { index, count });
    let all = (0..count).map(place).collect::<Option<Vec<_>>>();
    all.ok_or(KvmError::Lacks("room for the CPUID table"))
}

/// All vCPUs as they are before anything runs. All but the first wait for their start-up interrupt.
///
/// # Errors
/// [`KvmError`] naming the step.
pub(super) fn create(vm: &VmFd, cpuids: &[CpuId]) -> Result<Vec<VcpuFd>, KvmError> {
    let msrs = msrs::initial().ok_or(KvmError::Lacks("room for the initial MSRs"))?;
    let mut vcpus = Vec::new();
    for (index, cpuid) in (0..).zip(cpuids) {
        let vcpu = vm.create_vcpu(index).map_err(operation("create vCPU"))?;
        vcpu.set_cpuid2(cpuid).map_err(operation("set CPUID"))?;
        let set = vcpu.set_msrs(&msrs).map_err(operation("set MSRs"))?;
        if set != msrs.as_slice().len() {
            return Err(KvmError::Lacks("an MSR that firmware would set"));
        }
        vcpus.push(vcpu);
    }
    Ok(vcpus)
}

/// Has the first vCPU begin at the kernel's `entry`.
///
/// # Errors
/// [`KvmError`] naming the step.
pub(super) fn enter_kernel(vcpu: &VcpuFd, entry: u64) -> Result<(), KvmError> {
    let mut sregs = vcpu.get_sregs().map_err(operation("read system registers"))?;
    entry::enter_64_bit_mode(&mut sregs);
    vcpu.set_sregs(&sregs).map_err(operation("set system registers"))?;
    vcpu.set_regs(&entry::registers(entry)).map_err(operation("set registers"))
}

/// What of a vCPU that says `cpuid` about itself is saved and restored on this host.
///
/// # Errors
/// [`KvmError::Operation`] if KVM does not list its registers.
pub(super) fn extent(
    kvm: &Kvm,
    vm: &VmFd,
    cpuid: &[kvm_cpuid_entry2],
) -> Result<vcpu::Extent, KvmError> {
    let listed = kvm.get_msr_index_list().map_err(operation("list registers"))?;
    let msrs = kept_msrs::kept(listed.as_slice(), has_xsaves(cpuid));
    Ok(vcpu::Extent { msrs, xsave_words: vcpu::xsave_words(vm) })
}

/// Has the first vCPU, and what KVM knows besides, go on where the saved machine was. The machine
/// must have its memory: KVM looks addresses up that registers hold. The other vCPUs get nothing
/// but the time.
///
/// # Errors
/// [`StateError`] that says what does not fit.
pub(super) fn restore(
    kvm: &Kvm,
    vm: &VmFd,
    vcpus: &[VcpuFd],
    saved: &SavedMachine,
) -> Result<(), StateError> {
    let Some((first, others)) = vcpus.split_first() else { return Ok(()) };
    let extent = extent(kvm, vm, &saved.origin.cpuid)?;
    saved.vcpu.restore(first, &extent)?;
    if let Some(tsc) = saved.vcpu.tsc() {
        others.iter().try_for_each(|vcpu| vcpu::share_tsc(vcpu, tsc))?;
    }
    // After the vCPUs: the clock is told from the counter that they have now.
    saved.vm.restore(vm)?;
    // After the controllers, whose state would undo it. It says that the generation ID is another.
    Ok(kvm::pulse(vm, layout::GENERATION_LINE)?)
}

/// Whether a vCPU has the instruction that saves supervisor's state (CPUID 0xd, subleaf 1, EAX 3).
fn has_xsaves(cpuid: &[kvm_cpuid_entry2]) -> bool {
    let mut leaves = cpuid.iter();
    leaves.any(|entry| (entry.function, entry.index) == (0xd, 1) && entry.eax & 1 << 3 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supervisors_state_is_looked_for_in_its_own_subleaf() {
        let leaf =
            |function, index, eax| kvm_cpuid_entry2 { function, index, eax, ..Default::default() };
        assert!(has_xsaves(&[leaf(0xd, 0, 7), leaf(0xd, 1, 0xf)]));
        assert!(!has_xsaves(&[leaf(0xd, 0, 8), leaf(0xd, 1, 7), leaf(0xe, 1, 8)]));
    }
}
