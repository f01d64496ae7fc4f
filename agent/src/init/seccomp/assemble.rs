//! Classic BPF for seccomp(2). The program sees `struct seccomp_data`: number, architecture,
//! instruction pointer, six 64-bit arguments.

use std::collections::BTreeMap;

use super::table::Architecture;
use super::{ENOSYS, RET_ERRNO, Rule};
use crate::oci::seccomp::{Argument, Operator};
use crate::sys::filter::Instruction;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Where a test goes on.
#[derive(Debug, Clone, Copy)]
enum To {
    /// Skips so many instructions; 0 is the next.
    Skip(u8),
    /// The rule does not match: the end of its code.
    Fail,
}

const NEXT: To = To::Skip(0);

#[derive(Debug, Clone, Copy)]
enum Step {
    Do(u16, u32),
    Test(u16, u32, To, To),
}

/// A program that grows.
#[derive(Debug)]
pub(super) struct Assembler(Vec<Instruction>);

const fn plain(code: u16, operand: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, operand }
}

impl Assembler {
    pub(super) fn new() -> Self {
        Self(vec![plain(LOAD, ARCHITECTURE)])
    }

    /// Ends with a return value.
    pub(super) fn give(&mut self, value: u32) {
        self.0.push(plain(RETURN, value));
    }

    pub(super) fn finish(self) -> Vec<Instruction> {
        self.0
    }

    /// All rules of an architecture; other architectures go on behind them.
    pub(super) fn architecture(
        &mut self,
        architecture: &Architecture,
        rules: &BTreeMap<u32, Vec<Rule>>,
        enosys_above: Option<u32>,
        default: u32,
    ) {
        let skip = self.guard(architecture.audit);
        self.0.push(plain(LOAD, NUMBER));
        if let Some(end) = architecture.end {
            self.unless_below(JUMP_GREATER_EQUAL, end);
        }
        if let Some(last) = enosys_above {
            self.unless_below(JUMP_GREATER, last);
        }
        for (number, rules) in rules {
            let skip = self.guard(*number);
            let mut decided = false;
            for rule in rules {
                self.rule(rule);
                decided |= rule.conditions.is_empty();
            }
            if !decided {
                self.give(default);
            }
            self.land(skip);
        }
        self.give(default);
        self.land(skip);
    }

    /// Code that only runs if the accumulator equals `operand`; returns the jump to [`land`].
    ///
    /// [`land`]: Self::land
    fn guard(&mut self, operand: u32) -> usize {
        self.0.push(Instruction { code: JUMP_EQUAL, jump_true: 1, jump_false: 0, operand });
        self.0.push(plain(JUMP, 0));
        self.0.len() - 1
    }

    /// Lets a jump of [`guard`](Self::guard) end here.
    fn land(&mut self, jump: usize) {
        let distance = self.0.len() - jump - 1;
        // Programs of more than 4096 instructions are refused later.
        self.0[jump].operand = u32::try_from(distance).unwrap_or(u32::MAX);
    }

    fn unless_below(&mut self, code: u16, operand: u32) {
        self.0.push(Instruction { code, jump_true: 0, jump_false: 1, operand });
        self.give(RET_ERRNO | ENOSYS);
    }

    fn rule(&mut self, rule: &Rule) {
        let mut steps: Vec<Step> = rule.conditions.iter().flat_map(condition).collect();
        steps.push(Step::Do(RETURN, rule.value));
        let length = steps.len();
        for (position, step) in steps.into_iter().enumerate() {
            // At most 6 conditions of 6 instructions: always within reach of a jump.
            let fail = u8::try_from(length - position - 1).unwrap_or(u8::MAX);
            let distance = |to| match to {
                To::Skip(count) => count,
                To::Fail => fail,
            };
            self.0.push(match step {
                Step::Do(code, operand) => plain(code, operand),
                Step::Test(code, operand, yes, no) => Instruction {
                    code,
                    jump_true: distance(yes),
                    jump_false: distance(no),
                    operand,
                },
            });
        }
    }
}

fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

/// Code that goes on behind itself if the condition holds.
fn condition(argument: &Argument) -> Vec<Step> {
    let low_word = ARGUMENTS + argument.index * 8;
    let (load_high, load_low) = (Step::Do(LOAD, low_word + 4), Step::Do(LOAD, low_word));
    let (high, low) = halves(argument.value);
    let ordered = |high_test: Step, low_test: Step| {
        vec![load_high, high_test, Step::Test(JUMP_EQUAL, high, NEXT, To::Fail), load_low, low_test]
    };
    // Decided by the high half: skip the three instructions behind.
    let above = Step::Test(JUMP_GREATER, high, To::Skip(3), NEXT);
    let below = Step::Test(JUMP_GREATER_EQUAL, high, NEXT, To::Skip(3));
    match argument.op {
        Operator::Equal => vec![
            load_high,
            Step::Test(JUMP_EQUAL, high, NEXT, To::Fail),
            load_low,
            Step::Test(JUMP_EQUAL, low, NEXT, To::Fail),
        ],
        Operator::NotEqual => vec![
            load_high,
            Step::Test(JUMP_EQUAL, high, NEXT, To::Skip(2)),
            load_low,
            Step::Test(JUMP_EQUAL, low, To::Fail, NEXT),
        ],
        Operator::MaskedEqual => {
            let (expected_high, expected_low) = halves(argument.value_two);
            vec![
                load_high,
                Step::Do(AND, high),
                Step::Test(JUMP_EQUAL, expected_high, NEXT, To::Fail),
                load_low,
                Step::Do(AND, low),
                Step::Test(JUMP_EQUAL, expected_low, NEXT, To::Fail),
            ]
        }
        Operator::Greater => ordered(above, Step::Test(JUMP_GREATER, low, NEXT, To::Fail)),
        Operator::GreaterOrEqual => {
            ordered(above, Step::Test(JUMP_GREATER_EQUAL, low, NEXT, To::Fail))
        }
        Operator::Less => ordered(below, Step::Test(JUMP_GREATER_EQUAL, low, To::Fail, NEXT)),
        Operator::LessOrEqual => ordered(below, Step::Test(JUMP_GREATER, low, To::Fail, NEXT)),
    }
}
