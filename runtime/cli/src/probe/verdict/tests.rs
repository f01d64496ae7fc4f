use std::time::Duration;

use super::*;

fn speed(guest_us: u64, host_us: u64) -> Option<Speed> {
    Some(Speed {
        turns: 10_000,
        guest: Duration::from_micros(guest_us),
        host: Duration::from_micros(host_us),
    })
}

fn all(outcome: &Outcome) -> Vec<(Test, Outcome)> {
    Test::INSTRUCTIONS.map(|test| (test, outcome.clone())).to_vec()
}

fn seen(speed: Option<Speed>, tests: Vec<(Test, Outcome)>) -> Observation {
    Observation { speed, tests, ..Observation::default() }
}

#[test]
fn hardware_virtualisation_is_usable() {
    let verdict = classify(&seen(speed(35, 30), all(&Outcome::Passed)));
    assert!(matches!(verdict, Verdict::Usable(_)), "{verdict:?}");
    assert_eq!(verdict.words(), "runs a stock guest; kernel code at 86 % of the host's speed");
}

#[test]
fn a_nested_host_in_software_is_usable_though_both_sides_are_slow() {
    let verdict = classify(&seen(speed(1900, 900), all(&Outcome::Passed)));
    assert!(matches!(verdict, Verdict::Usable(_)), "{verdict:?}");
}

#[test]
fn an_instruction_that_the_processor_lacks_is_no_failure() {
    let mut tests = all(&Outcome::Passed);
    tests[4].1 = Outcome::NotOffered;
    assert!(matches!(classify(&seen(speed(35, 30), tests)), Verdict::Usable(_)));
}

#[test]
fn a_pvm_host_is_named_with_its_factor_and_what_is_missing() {
    // As measured on such a host.
    let tests = vec![
        (Test::Cpuid, Outcome::Passed),
        (Test::Msr, Outcome::Passed),
        (Test::PageTable, Outcome::Passed),
        (Test::Breakpoint, Outcome::NotEmulated),
        (Test::Popcnt, Outcome::NotOffered),
        (Test::Cmpxchg16b, Outcome::NotEmulated),
        (Test::Xsave, Outcome::NotOffered),
    ];
    let verdict = classify(&seen(speed(70_000, 7), tests));
    assert_eq!(
        verdict.words(),
        "unusable: guest kernel code is emulated here (a PVM host?), 10000 times slower than the host; \
         can't execute int3, cmpxchg16b; does not offer popcnt, xsave"
    );
}

#[test]
fn slowness_alone_is_emulation() {
    let verdict = classify(&seen(speed(900, 30), all(&Outcome::Passed)));
    assert!(matches!(verdict, Verdict::Emulated { .. }), "{verdict:?}");
}

#[test]
fn a_missing_instruction_at_full_speed_is_emulation_too() {
    let mut tests = all(&Outcome::Passed);
    tests[3].1 = Outcome::NotEmulated;
    let verdict = classify(&seen(speed(35, 30), tests));
    assert!(matches!(verdict, Verdict::Emulated { ref missing, .. } if missing == &["int3"]));
}

#[test]
fn an_exception_or_wrong_result_at_full_speed_is_a_broken_host() {
    let mut tests = all(&Outcome::Passed);
    tests[1].1 = Outcome::Trap(13);
    tests[5].1 = Outcome::WrongResult;
    let words = classify(&seen(speed(35, 30), tests)).words();
    assert_eq!(
        words,
        "unusable: the guest failed at rdmsr/wrmsr (exception 13), cmpxchg16b (wrong result)"
    );
}

#[test]
fn a_loop_that_never_ends_is_no_answer() {
    let endless = Observation { speed_failure: Some(Outcome::OutOfTime), ..Observation::default() };
    assert_eq!(classify(&endless), Verdict::NoAnswer);
    let stuck = Observation { stuck: true, ..Observation::default() };
    assert_eq!(classify(&stuck), Verdict::NoAnswer);
}

#[test]
fn a_probe_cut_short_is_never_usable() {
    let some = vec![(Test::Cpuid, Outcome::Passed)];
    assert_eq!(classify(&seen(speed(35, 30), some)), Verdict::NoAnswer);
    let mut tests = all(&Outcome::Passed);
    tests[6].1 = Outcome::OutOfTime;
    assert!(!matches!(classify(&seen(speed(35, 30), tests)), Verdict::Usable(_)));
}

#[test]
fn a_guest_that_stops_at_once_is_broken() {
    let stopped = Observation {
        speed_failure: Some(Outcome::Stopped("Shutdown".into())),
        ..Observation::default()
    };
    assert_eq!(
        classify(&stopped).words(),
        "unusable: the guest failed at ordinary instructions (Shutdown)"
    );
}
