//! What the VMM needs of the host's KVM. It refuses to start without; `cuddy check` asks before.

use kvm_bindings::{
    KVM_CAP_EXT_CPUID, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_IOEVENTFD, KVM_CAP_IRQ_ROUTING,
    KVM_CAP_IRQCHIP, KVM_CAP_IRQFD, KVM_CAP_READONLY_MEM, KVM_CAP_TSC_DEADLINE_TIMER,
    KVM_CAP_USER_MEMORY,
};

/// The only version of the interface that there is, since 2007 (`KVM_GET_API_VERSION`).
pub const VERSION: i32 = 12;

/// Something that KVM may offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// What `KVM_CHECK_EXTENSION` takes.
    pub number: u32,
    /// What it is, for a sentence that says that it is missing.
    pub name: &'static str,
}

const fn capability(number: u32, name: &'static str) -> Capability {
    Capability { number, name }
}

/// All that must be offered.
pub const NEEDED: [Capability; 9] = [
    capability(KVM_CAP_IRQCHIP, "in-kernel interrupt controllers"),
    capability(KVM_CAP_IRQFD, "interrupts from event descriptors"),
    capability(KVM_CAP_IOEVENTFD, "event descriptors for queue notifications"),
    capability(KVM_CAP_IRQ_ROUTING, "routing of interrupt lines"),
    capability(KVM_CAP_IMMEDIATE_EXIT, "immediate exit of a vCPU"),
    capability(KVM_CAP_TSC_DEADLINE_TIMER, "the local APIC's TSC deadline timer"),
    capability(KVM_CAP_USER_MEMORY, "guest memory from user space"),
    capability(KVM_CAP_READONLY_MEM, "guest memory that the guest can only read"),
    capability(KVM_CAP_EXT_CPUID, "CPUID tables"),
];

/// Names of those of [`NEEDED`] that are missing. `check` is `KVM_CHECK_EXTENSION`, which answers 0
/// or less for what is not offered.
pub fn missing(check: impl Fn(u32) -> i32) -> impl Iterator<Item = &'static str> {
    let lacks = move |capability: &Capability| check(capability.number) <= 0;
    NEEDED.into_iter().filter(lacks).map(|capability| capability.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_offered_is_missing() {
        assert_eq!(missing(|_| 1).count(), 0);
        let without_irqfd = |number| i32::from(number != KVM_CAP_IRQFD);
        let found: Vec<_> = missing(without_irqfd).collect();
        assert_eq!(found, ["interrupts from event descriptors"]);
        assert_eq!(missing(|_| -1).count(), NEEDED.len());
    }
}
