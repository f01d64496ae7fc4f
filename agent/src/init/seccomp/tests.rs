//! Programs are run by a small interpreter of classic BPF, so that every operator is checked by
//! what it decides.

use super::{RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, RET_LOG, RET_TRACE, compile};
use crate::oci::seccomp::Seccomp;
use crate::sys::filter::Instruction;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let (mut position, mut accumulator) = (0_usize, 0_u32);
    loop {
        let Instruction { code, jump_true, jump_false, operand } = program[position];
        position += 1;
        let jump = |holds: bool| usize::from(if holds { jump_true } else { jump_false });
        match code {
            0x20 => {
                let at = operand as usize;
                accumulator = u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
            }
            0x54 => accumulator &= operand,
            0x05 => position += operand as usize,
            0x15 => position += jump(accumulator == operand),
            0x25 => position += jump(accumulator > operand),
            0x35 => position += jump(accumulator >= operand),
            0x06 => return operand,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn filter(json: &str) -> Vec<Instruction> {
    let profile: Seccomp = serde_json::from_str(json).unwrap();
    compile(&profile).unwrap().instructions
}

fn decide(operator: &str, value: u64, value_two: u64, argument: u64) -> bool {
    let program = filter(&format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["personality"],
        "action":"SCMP_ACT_ALLOW","args":[{{"index":2,"value":{value},"valueTwo":{value_two},
        "op":"SCMP_CMP_{operator}"}}]}}]}}"#
    ));
    run(&program, X86_64, 135, [7, 7, argument, 7, 7, 7]) == RET_ALLOW
}

#[test]
fn operators_compare_all_64_bits() {
    let interesting = [
        0,
        1,
        0xffff_fffe,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        0x1_ffff_ffff,
        0x2_0000_0000,
        u64::MAX,
    ];
    for value in interesting {
        for argument in interesting {
            assert_eq!(decide("EQ", value, 0, argument), argument == value);
            assert_eq!(decide("NE", value, 0, argument), argument != value);
            assert_eq!(decide("LT", value, 0, argument), argument < value);
            assert_eq!(decide("LE", value, 0, argument), argument <= value);
            assert_eq!(decide("GT", value, 0, argument), argument > value, "{argument} {value}");
            assert_eq!(decide("GE", value, 0, argument), argument >= value);
            let masked = 0x1_0000_0000;
            assert_eq!(decide("MASKED_EQ", value, masked, argument), argument & value == masked);
        }
    }
}

#[test]
fn several_rules_of_a_call_are_tried_in_turn() {
    let program = filter(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"syscalls":[
        {"names":["personality"],"action":"SCMP_ACT_ALLOW",
         "args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"}]},
        {"names":["personality"],"action":"SCMP_ACT_ERRNO","errnoRet":22,
         "args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
        {"names":["read","no_such_call"],"action":"SCMP_ACT_ALLOW"}]}"#,
    );
    let call = |number, argument| run(&program, X86_64, number, [argument, 0, 0, 0, 0, 0]);
    assert_eq!(call(135, 0), RET_ALLOW);
    assert_eq!(call(135, 8), RET_ERRNO | 22);
    assert_eq!(call(135, 9), RET_ERRNO | 1);
    assert_eq!(call(0, 9), RET_ALLOW);
    assert_eq!(call(1, 9), RET_ERRNO | 1);
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let program = filter(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["socket"],
        "action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},
        {"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#,
    );
    let call = |domain| run(&program, X86_64, 41, [domain, 0, 0, 0, 0, 0]);
    assert_eq!([call(1), call(2)], [RET_ALLOW, RET_ALLOW]);
    assert_eq!(call(3), RET_ERRNO | 1);
}

#[test]
fn newer_calls_and_other_architectures_do_not_slip_through() {
    let json = |architectures| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","architectures":[{architectures}],
            "syscalls":[{{"names":["read","write"],"action":"SCMP_ACT_ALLOW"}}]}}"#
        )
    };
    let native = filter(&json(r#""SCMP_ARCH_X86_64","SCMP_ARCH_X32""#));
    assert_eq!(run(&native, X86_64, 2, [0; 6]), RET_ERRNO | 38);
    assert_eq!(run(&native, X86_64, 0x4000_0000, [0; 6]), RET_ERRNO | 38);
    assert_eq!(run(&native, I386, 3, [0; 6]), RET_KILL_PROCESS);
    let both = filter(&json(r#""SCMP_ARCH_X86_64","SCMP_ARCH_X86""#));
    assert_eq!(run(&both, I386, 3, [0; 6]), RET_ALLOW);
    assert_eq!(run(&both, I386, 1, [0; 6]), RET_ERRNO | 1);
}

#[test]
fn newer_calls_fail_as_unknown_unless_the_default_lets_them_through() {
    let newer = |default: &str| {
        let program = filter(&format!(
            r#"{{"defaultAction":{default},"syscalls":[{{"names":["read","write"],
            "action":"SCMP_ACT_KILL_THREAD"}}]}}"#
        ));
        run(&program, X86_64, 435, [0; 6])
    };
    for default in ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "ERRNO"] {
        assert_eq!(newer(&format!(r#""SCMP_ACT_{default}""#)), RET_ERRNO | 38, "{default}");
    }
    assert_eq!(newer(r#""SCMP_ACT_ALLOW""#), RET_ALLOW);
    assert_eq!(newer(r#""SCMP_ACT_LOG""#), RET_LOG);
    assert_eq!(newer(r#""SCMP_ACT_TRACE","defaultErrnoRet":7"#), RET_TRACE | 7);
    assert_eq!(newer(r#""SCMP_ACT_KILL_PROCESS","defaultErrnoRet":38"#), RET_KILL_PROCESS);
}

#[test]
fn first_rule_without_conditions_decides_alone() {
    let call = |rules: &[&str], argument| {
        let rules = rules.join(",");
        let program =
            filter(&format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#));
        run(&program, X86_64, 135, [argument, 0, 0, 0, 0, 0])
    };
    let conditional = r#"{"names":["personality"],"action":"SCMP_ACT_ERRNO","errnoRet":22,
        "args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}"#;
    let (all, later) = (
        r#"{"names":["personality"],"action":"SCMP_ACT_ALLOW"}"#,
        r#"{"names":["personality"],"action":"SCMP_ACT_LOG"}"#,
    );
    assert_eq!(call(&[conditional], 8), RET_ERRNO | 22);
    assert_eq!(call(&[conditional, all], 8), RET_ALLOW);
    assert_eq!(call(&[all, conditional], 8), RET_ALLOW);
    assert_eq!(call(&[all, later], 8), RET_ALLOW);
    // The default's own action is no rule.
    let redundant = conditional.replace(r#""errnoRet":22,"#, "");
    let wider = r#"{"names":["personality"],"action":"SCMP_ACT_ALLOW",
        "args":[{"index":0,"value":3,"op":"SCMP_CMP_NE"}]}"#;
    assert_eq!(call(&[&redundant, wider], 8), RET_ALLOW);
    assert_eq!(call(&[&redundant, wider], 3), RET_ERRNO | 1);
}

#[test]
fn a_denied_call_in_an_allowing_profile_is_denied() {
    let program = filter(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],
        "action":"SCMP_ACT_ERRNO","errnoRet":13}]}"#,
    );
    assert_eq!(run(&program, X86_64, 83, [0; 6]), RET_ERRNO | 13);
    assert_eq!(run(&program, X86_64, 999, [0; 6]), RET_ALLOW);
}

#[test]
fn notification_is_refused() {
    let profile: Seccomp = serde_json::from_str(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#).unwrap();
    assert!(compile(&profile).unwrap_err().message.contains("NOTIFY"));
}
