//! KVM's side of the machine: the VM, its interrupt controllers and memory slots.
//!
//! The interrupt controllers are KVM's own IOAPIC and local APICs ("full irqchip"). Windows signal
//! wired lines by event descriptor, which KVM turns into IOAPIC input without an exit. A split
//! irqchip would need an IOAPIC in this process. KVM makes a PIC together with the IOAPIC; no line
//! leads to it, so it stays silent. There is no PIT: kernels calibrate by kvm-clock.

mod state;

use std::io;

use kvm_bindings::{
    CpuId, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KVM_MAX_CPUID_ENTRIES, KVM_MEM_READONLY,
    KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_irqchip, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VmFd};
use virtio::mmio::Shadows;
use vm_memory::{Address, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};
use vmm_api::kvm;

use crate::arch::x86_64::layout;

pub(crate) use state::VmState;

/// A host on which no machine can be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KvmError {
    /// `/dev/kvm` is missing or closed to this user.
    #[error("open /dev/kvm: load the kvm_intel or kvm_amd module, or check permissions")]
    Open(#[source] io::Error),
    /// The KVM interface is not the one that Linux has had since 2007.
    #[error("KVM's interface has version {0}, not 12")]
    Version(i32),
    /// KVM lacks something.
    #[error("this host's KVM lacks {0}")]
    Lacks(&'static str),
    /// An operation failed.
    #[error("KVM: {action}")]
    Operation {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Adapts a failed KVM call; for `map_err`.
pub(crate) fn operation(action: &'static str) -> impl Fn(kvm_ioctls::Error) -> KvmError {
    move |error| KvmError::Operation { action, source: error.into() }
}

/// Opens KVM and checks that it has all that a machine needs.
///
/// # Errors
/// [`KvmError::Open`], [`KvmError::Version`] or [`KvmError::Lacks`].
pub(crate) fn open() -> Result<Kvm, KvmError> {
    let kvm = Kvm::new().map_err(|error| KvmError::Open(error.into()))?;
    let version = kvm.get_api_version();
    if version != kvm::VERSION {
        return Err(KvmError::Version(version));
    }
    let missing = kvm::missing(|number| kvm.check_extension_raw(number.into())).next();
    missing.map_or(Ok(kvm), |name| Err(KvmError::Lacks(name)))
}

/// The CPUID entries that this host's KVM supports.
///
/// # Errors
/// [`KvmError::Operation`] if KVM does not say.
pub(crate) fn supported_cpuid(kvm: &Kvm) -> Result<CpuId, KvmError> {
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(operation("read supported CPUID"))
}

/// Makes a VM with interrupt controllers, `memory` and the windows' `shadows`.
///
/// # Errors
/// [`KvmError::Operation`] naming the step.
pub(crate) fn create_vm(
    kvm: &Kvm,
    memory: &GuestMemoryMmap,
    shadows: &Shadows,
) -> Result<VmFd, KvmError> {
    let vm = kvm.create_vm().map_err(operation("create VM"))?;
    take_counters(&vm)?;
    let tss = usize::try_from(layout::KVM_TSS).unwrap_or(usize::MAX);
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)
        .map_err(operation("place the identity map"))?;
    vm.set_tss_address(tss).map_err(operation("place the TSS"))?;
    vm.create_irq_chip().map_err(operation("create interrupt controllers"))?;
    route_lines(&vm)?;
    map_memory(&vm, memory, shadows)?;
    Ok(vm)
}

/// Raises an interrupt line and lowers it again.
///
/// # Errors
/// [`KvmError::Operation`] if KVM has no such line.
pub(crate) fn pulse(vm: &VmFd, line: u32) -> Result<(), KvmError> {
    for active in [true, false] {
        vm.set_irq_line(line, active).map_err(operation("pulse an interrupt line"))?;
    }
    Ok(())
}

/// Leaves the guest no performance counters, which tell of what else runs on a core: CPUID can't
/// take those of AMD's processors away. A KVM that has none to give, or is older than Linux 5.18,
/// lacks the call.
fn take_counters(vm: &VmFd) -> Result<(), KvmError> {
    if vm.check_extension_raw(kvm_bindings::KVM_CAP_PMU_CAPABILITY.into()) <= 0 {
        return Ok(());
    }
    vm.enable_cap(&no_counters()).map_err(operation("take performance counters away"))
}

/// What tells KVM to give a machine no performance counters (KVM's `api.rst`, 8.33).
fn no_counters() -> kvm_bindings::kvm_enable_cap {
    let cap = kvm_bindings::KVM_CAP_PMU_CAPABILITY;
    let args = [kvm_bindings::KVM_PMU_CAP_DISABLE.into(), 0, 0, 0];
    kvm_bindings::kvm_enable_cap { cap, args, ..Default::default() }
}

/// Leads every line to the IOAPIC pin of the same number and, unlike KVM's default, none to
/// the PIC.
fn route_lines(vm: &VmFd) -> Result<(), KvmError> {
    let routes: Vec<_> = (0..layout::IOAPIC_PINS)
        .map(|line| {
            let mut route = kvm_irq_routing_entry {
                gsi: line,
                type_: KVM_IRQ_ROUTING_IRQCHIP,
                ..Default::default()
            };
            route.u.irqchip = kvm_irq_routing_irqchip { irqchip: KVM_IRQCHIP_IOAPIC, pin: line };
            route
        })
        .collect();
    let routing =
        KvmIrqRouting::from_entries(&routes).map_err(|_| KvmError::Lacks("room for 24 routes"))?;
    vm.set_gsi_routing(&routing).map_err(operation("route interrupt lines"))
}

/// Gives the guest its memory, one slot per mapping, and one to read where the windows are: writes
/// there go to the windows.
#[allow(unsafe_code, reason = "KVM takes the address of a mapping")]
fn map_memory(vm: &VmFd, memory: &GuestMemoryMmap, shadows: &Shadows) -> Result<(), KvmError> {
    let own = memory.iter().map(|region| kvm_userspace_memory_region {
        guest_phys_addr: region.start_addr().raw_value(),
        memory_size: region.len(),
        userspace_addr: region.as_ptr() as u64,
        ..Default::default()
    });
    let windows = kvm_userspace_memory_region {
        guest_phys_addr: layout::WINDOW_RANGE.start,
        memory_size: shadows.size() as u64,
        userspace_addr: shadows.address() as u64,
        flags: KVM_MEM_READONLY,
        ..Default::default()
    };
    for (slot, region) in (0_u32..).zip(own.chain([windows])) {
        let region = kvm_userspace_memory_region { slot, ..region };
        // SAFETY: these are the bytes of a mapping, or of the shadows, and they live as long as
        // `memory` and `shadows`, of which every user of the VM holds a clone.
        let mapped = unsafe { vm.set_user_memory_region(region) };
        mapped.map_err(operation("map guest memory"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's own numbers: `include/uapi/linux/kvm.h`.
    #[test]
    fn counters_are_taken_by_the_kernels_numbers() {
        let cap = no_counters();
        assert_eq!((cap.cap, cap.flags, cap.args), (212, 0, [1, 0, 0, 0]));
    }
}
