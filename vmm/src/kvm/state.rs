//! What KVM knows of a machine besides its vCPUs: interrupt controllers and the clock.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data, kvm_irqchip,
};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};

use super::{KvmError, operation};

/// KVM's interrupt controllers. Nothing leads to the two PICs, but they come with the IOAPIC.
const CHIPS: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

/// A machine's state in KVM besides its vCPUs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VmState {
    /// In the order of [`CHIPS`].
    chips: [kvm_irqchip; 3],
    /// Nanoseconds of the guest's clock.
    clock: u64,
}

impl VmState {
    /// Reads the state of a machine whose vCPUs stand still.
    ///
    /// # Errors
    /// [`KvmError::Operation`] if KVM does not say.
    pub(crate) fn save(vm: &VmFd) -> Result<Self, KvmError> {
        let mut chips = CHIPS.map(chip);
        for chip in &mut chips {
            vm.get_irqchip(chip).map_err(operation("read interrupt controller"))?;
        }
        let clock = vm.get_clock().map_err(operation("read the guest's clock"))?.clock;
        Ok(Self { chips, clock })
    }

    /// The state of no machine.
    #[cfg(test)]
    pub(crate) fn blank() -> Self {
        Self { chips: CHIPS.map(chip), clock: 0 }
    }

    /// Gives the state to a machine whose vCPUs have theirs. Interrupts from devices are lost if
    /// they come before.
    ///
    /// # Errors
    /// [`KvmError::Operation`] if KVM does not take it.
    pub(crate) fn restore(&self, vm: &VmFd) -> Result<(), KvmError> {
        vm.set_clock(&clock_at(self.clock)).map_err(operation("set the guest's clock"))?;
        for (saved, id) in self.chips.iter().zip(CHIPS) {
            let chip = kvm_irqchip { chip_id: id, ..*saved };
            vm.set_irqchip(&chip).map_err(operation("set interrupt controller"))?;
        }
        Ok(())
    }
}

fn chip(chip_id: u32) -> kvm_irqchip {
    kvm_irqchip { chip_id, ..Default::default() }
}

/// What lets the guest's clock go on from `clock`. No flag is set: with `KVM_CLOCK_REALTIME` the
/// time since the save would be added, and all of the guest's timers would run out at once.
fn clock_at(clock: u64) -> kvm_clock_data {
    kvm_clock_data { clock, flags: 0, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Firecracker #5809: the guest's monotonic time jumped.
    #[test]
    fn the_clock_goes_on_where_it_stood() {
        let clock = clock_at(17);
        assert_eq!((clock.clock, clock.flags, clock.realtime, clock.host_tsc), (17, 0, 0, 0));
    }

    /// The kernel's own numbers: `arch/x86/include/uapi/asm/kvm.h`.
    #[test]
    fn all_controllers_are_saved_by_the_kernels_numbers() {
        assert_eq!(CHIPS.map(|id| chip(id).chip_id), [0, 1, 2]);
    }
}
