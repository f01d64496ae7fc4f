//! The device controller: cgroup v2 has no files for it; a small eBPF program decides. Rules
//! are those of `linux.resources.devices` with the meaning that cgroup v1 gave them
//! (config-linux.md, "Allowed Device list"). Pure up to the program's text.

use std::collections::BTreeMap;

use syscalls::bpf::Instruction;
use syscalls::bpf::opcode::{
    AND_32, COPY, COPY_32, EXIT, JUMP_IF_EQUAL, JUMP_UNLESS_EQUAL, LOAD, SET_32, SHIFT_RIGHT_32,
};

use crate::oci::resources::DeviceRule;

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// Type, major and minor number; absent numbers stand for all.
type Key = (i32, Option<i32>, Option<i32>);

/// What every container may use, as runc: making any node, terminals and the default devices.
const ALWAYS: [(i32, Option<i32>, Option<i32>, u8); 11] = [
    (CHARACTER, None, None, MKNOD),
    (BLOCK, None, None, MKNOD),
    (CHARACTER, Some(1), Some(3), ALL),
    (CHARACTER, Some(1), Some(5), ALL),
    (CHARACTER, Some(1), Some(7), ALL),
    (CHARACTER, Some(1), Some(8), ALL),
    (CHARACTER, Some(1), Some(9), ALL),
    (CHARACTER, Some(5), Some(0), ALL),
    (CHARACTER, Some(5), Some(1), ALL),
    (CHARACTER, Some(5), Some(2), ALL),
    (CHARACTER, Some(136), None, ALL),
];

/// A default and its exceptions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Policy {
    allow: bool,
    exceptions: BTreeMap<Key, u8>,
}

impl Policy {
    fn apply(&mut self, rule: &DeviceRule) -> Result<(), String> {
        let kind = match rule.kind.as_str() {
            "" | "a" => {
                // A rule for all devices replaces everything before it.
                *self = Self { allow: rule.allow, exceptions: BTreeMap::new() };
                return Ok(());
            }
            "b" => BLOCK,
            "c" | "u" => CHARACTER,
            other => return Err(format!("device rule of unknown type {other:?}")),
        };
        let access = access(&rule.access)?;
        self.except((kind, number(rule.major)?, number(rule.minor)?), access, rule.allow)
    }

    /// Adds an exception, or takes one back. A part of a wider one can't be taken back: cgroup v1
    /// ignores that and runc refuses it, so that nobody believes in a denial that there is not.
    fn except(&mut self, key: Key, access: u8, allow: bool) -> Result<(), String> {
        if allow != self.allow {
            *self.exceptions.entry(key).or_default() |= access;
            return Ok(());
        }
        let (kind, major, minor) = key;
        let wider = [(kind, None, minor), (kind, major, None), (kind, None, None)];
        let mut wider = wider.iter().filter(|wider| **wider != key);
        let overlap = |has: &u8| has & access != 0;
        if let Some(wide) = wider.find(|wide| self.exceptions.get(wide).is_some_and(overlap)) {
            let (rule, wide) = (text(key, access), text(*wide, self.exceptions[wide]));
            let (word, other) = if allow { ("allow", "deny") } else { ("deny", "allow") };
            return Err(format!(
                "device rule \"{word} {rule}\": cannot punch a hole into the wider \"{other} {wide}\""
            ));
        }
        if let Some(entry) = self.exceptions.get_mut(&key) {
            *entry &= !access;
            if *entry == 0 {
                self.exceptions.remove(&key);
            }
        }
        Ok(())
    }
}

/// A rule as cgroup v1 writes it: `c 10:* rw`.
fn text((kind, major, minor): Key, access: u8) -> String {
    let kind = if kind == BLOCK { 'b' } else { 'c' };
    let number = |number: Option<i32>| number.map_or("*".to_owned(), |number| number.to_string());
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    let letters = letters.into_iter().filter(|(bit, _)| access & bit != 0);
    let letters: String = letters.map(|(_, letter)| letter).collect();
    format!("{kind} {}:{} {letters}", number(major), number(minor))
}

fn access(letters: &str) -> Result<u8, String> {
    if letters.is_empty() {
        return Ok(ALL);
    }
    letters.chars().try_fold(0, |access, letter| match letter {
        'r' => Ok(access | READ),
        'w' => Ok(access | WRITE),
        'm' => Ok(access | MKNOD),
        other => Err(format!("device rule with unknown access {other:?}")),
    })
}

/// Negative numbers stand for all, as in Go's cgroup libraries.
fn number(number: Option<i64>) -> Result<Option<i32>, String> {
    match number {
        Some(number) if number >= 0 => {
            i32::try_from(number).map(Some).map_err(|_| format!("device number {number}"))
        }
        _ => Ok(None),
    }
}

/// The program that enforces rules.
///
/// # Errors
/// A rule has an unknown type, access or number, or takes back a part of a wider one.
pub(super) fn program(rules: &[DeviceRule]) -> Result<Vec<Instruction>, String> {
    let mut policy = Policy::default();
    for rule in rules {
        policy.apply(rule)?;
    }
    for (kind, major, minor, access) in ALWAYS {
        policy.except((kind, major, minor), access, true)?;
    }
    Ok(assemble(&policy))
}

/// Registers: 1 the context, then scratch; 2 type; 3 access; 4 major; 5 minor; 0 the result.
fn assemble(policy: &Policy) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx: type (low half) and access (high half), major, minor.
    let mut program = vec![
        Instruction::new(LOAD, 2, 1, 0, 0),
        Instruction::new(COPY, 3, 2, 0, 0),
        Instruction::new(AND_32, 2, 0, 0, 0xffff),
        Instruction::new(SHIFT_RIGHT_32, 3, 0, 0, 16),
        Instruction::new(LOAD, 4, 1, 4, 0),
        Instruction::new(LOAD, 5, 1, 8, 0),
    ];
    for (key, access) in &policy.exceptions {
        program.extend(exception(*key, *access, policy.allow));
    }
    program.extend(verdict(policy.allow));
    program
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [Instruction::new(SET_32, 0, 0, 0, i32::from(allow)), Instruction::new(EXIT, 0, 0, 0, 0)]
}

fn exception((kind, major, minor): Key, access: u8, default: bool) -> Vec<Instruction> {
    let mut tests = vec![(2, kind)];
    tests.extend(major.map(|major| (4, major)));
    tests.extend(minor.map(|minor| (5, minor)));
    // Behind the tests: 3 instructions on access, 2 of the verdict.
    let mut left = i16::try_from(tests.len()).unwrap_or(i16::MAX) + 5;
    let mut program = Vec::new();
    for (register, value) in tests {
        left -= 1;
        program.push(Instruction::new(JUMP_UNLESS_EQUAL, register, 0, left, value));
    }
    program.push(Instruction::new(COPY_32, 1, 3, 0, 0));
    if default {
        // Denied if anything of what is asked for is excepted.
        program.push(Instruction::new(AND_32, 1, 0, 0, i32::from(access)));
        program.push(Instruction::new(JUMP_IF_EQUAL, 1, 0, 2, 0));
    } else {
        // Allowed if all that is asked for is excepted.
        program.push(Instruction::new(AND_32, 1, 0, 0, i32::from(!access)));
        program.push(Instruction::new(JUMP_UNLESS_EQUAL, 1, 0, 2, 0));
    }
    program.extend(verdict(!default));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interprets the instructions that [`super::assemble`] uses.
    fn run(program: &[Instruction], kind: i32, access: u8, major: i32, minor: i32) -> bool {
        let context = [kind | (i32::from(access) << 16), major, minor];
        let mut registers = [0_i32; 11];
        let mut position = 0_usize;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[position];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            position += 1;
            let skip = usize::try_from(offset).unwrap();
            match code {
                LOAD => registers[to] = context[skip / 4],
                COPY | COPY_32 => registers[to] = registers[from],
                SET_32 => registers[to] = immediate,
                AND_32 => registers[to] &= immediate,
                SHIFT_RIGHT_32 => registers[to] >>= immediate,
                JUMP_IF_EQUAL => position += if registers[to] == immediate { skip } else { 0 },
                JUMP_UNLESS_EQUAL => position += if registers[to] == immediate { 0 } else { skip },
                EXIT => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn rules(json: &str) -> Vec<Instruction> {
        let rules: Vec<DeviceRule> = serde_json::from_str(json).unwrap();
        program(&rules).unwrap()
    }

    #[test]
    fn the_usual_list_denies_but_what_it_allows() {
        let program = rules(
            r#"[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
            {"allow":true,"type":"b","major":8,"access":"r"}]"#,
        );
        assert!(run(&program, CHARACTER, READ | WRITE, 1, 3), "/dev/null");
        assert!(run(&program, CHARACTER, READ | WRITE, 136, 5), "/dev/pts/5");
        assert!(run(&program, CHARACTER, READ | WRITE, 10, 229), "allowed by the rule");
        assert!(!run(&program, CHARACTER, READ, 10, 230));
        assert!(!run(&program, CHARACTER, READ, 1, 1), "/dev/mem");
        assert!(run(&program, 1, READ, 8, 3));
        assert!(!run(&program, 1, READ | WRITE, 8, 3));
        assert!(run(&program, 1, MKNOD, 8, 3));
    }

    #[test]
    fn everything_may_be_allowed_with_exceptions() {
        let program = rules(
            r#"[{"allow":true,"access":"rwm"},
            {"allow":false,"type":"c","major":1,"minor":1,"access":"w"}]"#,
        );
        assert!(run(&program, 1, READ | WRITE, 8, 0));
        assert!(run(&program, CHARACTER, READ, 1, 1));
        assert!(!run(&program, CHARACTER, READ | WRITE, 1, 1));
    }

    #[test]
    fn a_later_rule_takes_back_an_earlier_one() {
        let program = rules(
            r#"[{"allow":true,"type":"c","major":9,"minor":9,"access":"rw"},
            {"allow":false,"type":"c","major":9,"minor":9,"access":"w"}]"#,
        );
        assert!(run(&program, CHARACTER, READ, 9, 9));
        assert!(!run(&program, CHARACTER, WRITE, 9, 9));
    }

    fn refused(json: &str) -> String {
        let rules: Vec<DeviceRule> = serde_json::from_str(json).unwrap();
        program(&rules).unwrap_err()
    }

    #[test]
    fn part_of_a_wider_rule_is_not_silently_left_alone() {
        let wide = r#"{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":10,"access":"rwm"}"#;
        let hole = r#"{"allow":false,"type":"c","major":10,"minor":200,"access":"rw"}"#;
        let error = refused(&format!("[{wide},{hole}]"));
        assert!(
            error.contains("deny c 10:200 rw") && error.contains("allow c 10:* rwm"),
            "{error}"
        );
        let error = refused(
            r#"[{"allow":true},{"allow":false,"type":"b","access":"w"},
            {"allow":true,"type":"b","major":8,"minor":0,"access":"w"}]"#,
        );
        assert!(error.contains("allow b 8:0 w") && error.contains("deny b *:* w"), "{error}");
        // Neither other access nor another device is a part of it.
        let program = rules(
            r#"[{"allow":false},{"allow":true,"type":"c","major":10,"access":"r"},
            {"allow":false,"type":"c","major":10,"minor":200,"access":"w"},
            {"allow":false,"type":"c","major":11,"minor":1,"access":"rwm"}]"#,
        );
        assert!(run(&program, CHARACTER, READ, 10, 200));
        assert!(!run(&program, CHARACTER, WRITE, 10, 200));
    }

    #[test]
    fn unknown_words_are_refused() {
        for json in [r#"[{"type":"x"}]"#, r#"[{"type":"c","access":"z"}]"#] {
            let rules: Vec<DeviceRule> = serde_json::from_str(json).unwrap();
            assert!(program(&rules).is_err());
        }
    }
}
