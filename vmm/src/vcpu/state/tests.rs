use super::*;

fn place(order: &[Part], part: Part) -> usize {
    order.iter().position(|one| *one == part).unwrap()
}

#[test]
fn reading_begins_with_what_changes_others_and_ends_with_what_is_pending() {
    assert_eq!((SAVE[0], SAVE[SAVE.len() - 1]), (Part::MpState, Part::Events));
}

/// Kata Containers #13798: some of a hundred clones hung, their deadline dropped.
#[test]
fn the_local_apic_comes_after_its_base_and_before_its_deadline() {
    let at = |part| place(&RESTORE, part);
    assert!(at(Part::Sregs) < at(Part::Lapic) && at(Part::Lapic) < at(Part::Msrs));
}

#[test]
fn events_come_after_registers_and_the_counters_rate_before_the_counter() {
    let at = |part| place(&RESTORE, part);
    assert_eq!(at(Part::Events), RESTORE.len() - 1);
    assert!(at(Part::Regs) < at(Part::Events) && at(Part::TscRate) < at(Part::Msrs));
}

#[test]
fn what_is_read_is_set() {
    for part in SAVE {
        assert_eq!(RESTORE.iter().filter(|one| **one == part).count(), 1, "{part:?}");
    }
}

/// Cloud Hypervisor skips such registers, and the guest finds out.
#[test]
fn a_register_that_kvm_does_not_take_is_named() {
    let msrs = [(0x10, 1), (0xda0, 2), (0x6e0, 3)];
    assert!(complete("set", &msrs, 3).is_ok());
    let error = complete("set", &msrs, 1).unwrap_err();
    assert!(error.to_string().starts_with("set register 0xda0"), "{error}");
}

/// A state comes from a file: KVM's registers that no machine here has are not for it to set.
#[test]
fn a_register_that_would_not_be_saved_is_not_set() {
    assert!(check_known(&[(0x10, 1), (0x6e0, 0)], &[0x10, 0x11, 0x6e0]).is_ok());
    let error = check_known(&[(0x10, 1), (0x4000_0000, 2)], &[0x10, 0x6e0]).unwrap_err();
    assert!(error.to_string().starts_with("set register 0x40000000"), "{error}");
}

#[test]
fn hosts_that_differ_are_told_apart() {
    assert!(same_rate(2_400_000, 2_400_600) && same_rate(2_400_600, 2_400_000));
    assert!(!same_rate(2_400_000, 2_400_601) && !same_rate(2_400_000, 0));
    let error = check_extended(1024, 2816).unwrap_err();
    assert!(error.to_string().contains("4096 bytes of extended registers"), "{error}");
    assert!(error.to_string().contains("KVM 11264"), "{error}");
}

#[test]
fn more_registers_than_kvm_takes_are_refused() {
    let many: Vec<Msr> = (0..300).map(|index| (index, 0)).collect();
    assert!(table(&many).is_err());
}
