//! Which model-specific registers are part of a saved vCPU, and in which order they are set.
//!
//! KVM lists what a vCPU has (`KVM_GET_MSR_INDEX_LIST`). Some of that is no state of a machine
//! here, and two registers that are state are missing from the list. Numbers are those of the Intel
//! SDM volume 4, of AMD's APM volume 2, appendix A, and of Linux's `msr-index.h` and `kvm_para.h`.

use std::ops::RangeInclusive;

/// IA32_TIME_STAMP_COUNTER.
pub(crate) const TSC: u32 = 0x10;

/// IA32_TSC_DEADLINE.
pub(crate) const TSC_DEADLINE: u32 = 0x6e0;

/// IA32_DEBUGCTL.
const DEBUGCTL: u32 = 0x1d9;

/// IA32_MTRR_DEF_TYPE, which this VMM sets at boot.
const MTRR_DEF_TYPE: u32 = 0x2ff;

/// IA32_XSS.
const XSS: u32 = 0xda0;

/// A register and its value.
pub(crate) type Msr = (u32, u64);

/// Registers that KVM lists and that are left out.
struct LeftOut {
    indices: RangeInclusive<u32>,
    #[allow(dead_code, reason = "a table with reasons: the compiler makes sure none is missing")]
    reason: &'static str,
}

const fn left_out(indices: RangeInclusive<u32>, reason: &'static str) -> LeftOut {
    LeftOut { indices, reason }
}

const NO_COUNTERS: &str = "machines have no performance counters: see cpuid.rs";

const LEFT_OUT: &[LeftOut] = &[
    left_out(0xc1..=0xc8, NO_COUNTERS),
    left_out(0x17b..=0x17b, "MCG_CTL: exists only with banks that KVM does not give by itself"),
    left_out(0x186..=0x18d, NO_COUNTERS),
    left_out(0x1a6..=0x1a7, NO_COUNTERS),
    left_out(0x1db..=0x1de, "addresses of last branches: a debugger's, and AMD's can't be set"),
    left_out(0x309..=0x30c, NO_COUNTERS),
    left_out(0x345..=0x345, NO_COUNTERS),
    left_out(0x38d..=0x390, NO_COUNTERS),
    left_out(0x3f1..=0x3f2, NO_COUNTERS),
    left_out(0x480..=0x493, "nested virtualisation is not offered"),
    left_out(0x4c1..=0x4c8, NO_COUNTERS),
    left_out(0x560..=0x58b, "Processor Trace is not offered"),
    left_out(0x600..=0x600, NO_COUNTERS),
    left_out(0x14ce..=0x14cf, NO_COUNTERS),
    left_out(0x4000_0000..=0x4000_01ff, "Hyper-V's are not offered"),
    left_out(0xc000_0300..=0xc000_0303, NO_COUNTERS),
    left_out(0xc001_0000..=0xc001_0007, NO_COUNTERS),
    left_out(0xc001_0200..=0xc001_020b, NO_COUNTERS),
];

/// The registers that are saved, of those that KVM lists. `xsaves` says whether the vCPU has that
/// instruction. Older lists lack the register that it obeys, and a guest that finds it at zero takes
/// a fault when it restores what it saved with other bits.
pub(crate) fn kept(listed: &[u32], xsaves: bool) -> Vec<u32> {
    let wanted = |index: &u32| !LEFT_OUT.iter().any(|left_out| left_out.indices.contains(index));
    let mut kept: Vec<u32> = listed.iter().copied().filter(wanted).collect();
    kept.push(MTRR_DEF_TYPE);
    if xsaves {
        kept.push(XSS);
    }
    kept.sort_unstable();
    kept.dedup();
    kept
}

/// The two steps in which registers are set.
///
/// The deadline comes in the second. KVM compares it with the time-stamp counter when it is set: an
/// interrupt would come at once, or hours late, before the counter is what it was.
///
/// A deadline that reads zero may be one that has passed, whose interrupt was not delivered yet:
/// KVM keeps that apart from what is saved. It is made to pass again, which costs a guest that had
/// none an interrupt for nothing. KVM ignores a deadline where the timer is in another mode.
///
/// A register for debugging that nobody uses is zero in a new vCPU as well. Setting it would have
/// KVM complain in the host's log, where the processor has no such feature.
pub(crate) fn steps(msrs: &[Msr]) -> [Vec<Msr>; 2] {
    let now = msrs.iter().find(|(index, _)| *index == TSC).map_or(0, |(_, value)| *value);
    let needed = msrs.iter().filter(|msr| **msr != (DEBUGCTL, 0));
    let (mut last, first): (Vec<Msr>, Vec<Msr>) =
        needed.partition(|(index, _)| *index == TSC_DEADLINE);
    for (_, deadline) in &mut last {
        if *deadline == 0 {
            *deadline = now;
        }
    }
    [first, last]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part of what Linux 6.12 lists on an Intel and on an AMD processor.
    const LISTED: &[u32] = &[
        0x10,
        0x11,
        0x12,
        0x174,
        0x17a,
        0x17b,
        0xc1,
        0x186,
        0x309,
        0x38f,
        0x277,
        0x480,
        0x6e0,
        0x4000_0020,
        0x4b56_4d00,
        0x4b56_4d01,
        0x4b56_4d02,
        0x4b56_4d03,
        0x4b56_4d04,
        0x4b56_4d06,
        0x4b56_4d07,
        0xc000_0080,
        0xc000_0081,
        0xc000_0102,
        0xc000_0103,
        0xc001_0000,
        0xc001_0200,
    ];

    #[test]
    fn counters_nesting_and_hyper_v_are_left_out() {
        let kept = kept(LISTED, false);
        for index in [0x17b, 0xc1, 0x186, 0x309, 0x38f, 0x480, 0x4000_0020, 0xc001_0000] {
            assert!(!kept.contains(&index), "{index:#x}");
        }
    }

    /// Firecracker #5738: clones whose asynchronous page faults were lost.
    #[test]
    fn what_kvm_does_for_its_guests_is_kept() {
        let kept = kept(LISTED, false);
        for index in (0x4b56_4d00..=0x4b56_4d04).chain([0x4b56_4d06, 0x4b56_4d07, 0x11, 0x12]) {
            assert!(kept.contains(&index), "{index:#x}");
        }
    }

    /// Firecracker found them missing from the list of Linux 6.12 and before.
    #[test]
    fn registers_that_kvm_forgets_to_list_are_kept() {
        assert!(!kept(LISTED, false).contains(&XSS));
        let with = kept(LISTED, true);
        assert!(with.contains(&XSS) && with.contains(&MTRR_DEF_TYPE));
        let listed: Vec<u32> = LISTED.iter().copied().chain([XSS, MTRR_DEF_TYPE]).collect();
        assert_eq!(kept(&listed, true), with, "each once, also where KVM lists it");
    }

    /// Firecracker #4099: timers that were lost, and programs that hung for ever.
    #[test]
    fn the_deadline_is_set_when_the_counter_is_right() {
        let msrs = [(TSC_DEADLINE, 700), (0x11, 1), (TSC, 500)];
        let [first, last] = steps(&msrs);
        assert_eq!((first, last), (vec![(0x11, 1), (TSC, 500)], vec![(TSC_DEADLINE, 700)]));
    }

    /// Firecracker #4618: a deadline that had passed and whose interrupt was lost.
    #[test]
    fn a_deadline_that_has_passed_passes_again() {
        let [_, last] = steps(&[(TSC, 500), (TSC_DEADLINE, 0)]);
        assert_eq!(last, [(TSC_DEADLINE, 500)]);
        let [first, last] = steps(&[(TSC, 500)]);
        assert_eq!((first, last), (vec![(TSC, 500)], vec![]));
    }

    #[test]
    fn debugging_is_restored_if_it_is_on() {
        assert_eq!(steps(&[(TSC, 1), (DEBUGCTL, 0)]), [vec![(TSC, 1)], vec![]]);
        assert_eq!(steps(&[(DEBUGCTL, 4)]), [vec![(DEBUGCTL, 4)], vec![]]);
    }

    #[test]
    fn every_register_that_is_left_out_has_a_reason() {
        assert!(LEFT_OUT.iter().all(|one| one.reason.len() > 10 && !one.indices.is_empty()));
    }
}
