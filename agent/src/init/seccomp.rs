//! `linux.seccomp`: a profile becomes one classic BPF program.
//!
//! The rules of one system call mean what runc and libseccomp make of them:
//! - The first rule without conditions decides alone, whatever other rules there are.
//! - Rules whose action is the default one do not count.
//! - Other rules are tried in the profile's order. If none matches, the default action applies.
//!
//! As with runc, calls with numbers above all that the profile knows fail with ENOSYS. Programs
//! then fall back to older calls. This does not apply where the default action lets calls through
//! or asks a tracer, or where `defaultErrnoRet` is ENOSYS. Names that the kernel lacks are skipped.

mod assemble;
mod table;

use std::collections::BTreeMap;

use crate::control::Failure;
use crate::oci::seccomp::{Action, Argument, Seccomp};
use crate::sys::filter::{self, Filter};
use assemble::Assembler;
use table::Architecture;

/// The kernel's limit, `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const DATA_MASK: u32 = 0xffff;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// A rule of one system call: conditions that must all hold, and the kernel's return value.
#[derive(Debug, Clone)]
struct Rule {
    conditions: Vec<Argument>,
    value: u32,
}

/// Installs a filter for this process; from now on it counts.
pub(super) fn install(filter: &Filter) -> Result<(), Failure> {
    filter::install(&filter.instructions, filter.flags)
        .map_err(|error| Failure::guest(format_args!("install the seccomp filter: {error}")))
}

/// Compiles a profile.
///
/// # Errors
/// The profile asks for notification, an unknown flag or architecture, or is too long.
pub(crate) fn compile(profile: &Seccomp) -> Result<Filter, Failure> {
    let default = action_value(profile.default_action, profile.default_errno_ret)?;
    let mut program = Assembler::new();
    for architecture in architectures(profile)? {
        let rules = rules_of(profile, architecture, default)?;
        let above = enosys_above(profile, architecture);
        program.architecture(architecture, &rules, above, default);
    }
    // Calls by an architecture that the profile does not list.
    program.give(RET_KILL_PROCESS);
    let instructions = program.finish();
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(Failure::configuration("seccomp: the profile is too long"));
    }
    Ok(Filter { instructions, flags: flags(&profile.flags)? })
}

fn architectures(profile: &Seccomp) -> Result<Vec<&'static Architecture>, Failure> {
    let mut found = vec![&table::X86_64];
    for name in &profile.architectures {
        match name.as_str() {
            "SCMP_ARCH_X86" => found.push(&table::I386),
            // x32 is not compiled into the guest's kernel; its calls get ENOSYS from it.
            "SCMP_ARCH_NATIVE" | "SCMP_ARCH_X86_64" | "SCMP_ARCH_X32" => {}
            // Profiles list what other machines would need.
            other if other.starts_with("SCMP_ARCH_") => {}
            other => {
                return Err(Failure::configuration(format_args!(
                    "seccomp: architecture {other:?}"
                )));
            }
        }
    }
    Ok(found)
}

fn flags(names: &[String]) -> Result<libc::c_ulong, Failure> {
    let mut flags = 0;
    for name in names {
        flags |= match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            other => return Err(Failure::configuration(format_args!("seccomp: flag {other:?}"))),
        };
    }
    Ok(flags)
}

fn action_value(action: Action, errno: Option<u32>) -> Result<u32, Failure> {
    let data = errno.unwrap_or(EPERM) & DATA_MASK;
    Ok(match action {
        Action::Kill | Action::KillThread => RET_KILL_THREAD,
        Action::KillProcess => RET_KILL_PROCESS,
        Action::Trap => RET_TRAP,
        Action::Errno => RET_ERRNO | data,
        Action::Trace => RET_TRACE | data,
        Action::Allow => RET_ALLOW,
        Action::Log => RET_LOG,
        Action::Notify => {
            return Err(Failure::configuration(
                "seccomp: SCMP_ACT_NOTIFY is not possible: its supervisor is outside of the guest",
            ));
        }
    })
}

/// Rules by system call number, in the order in which they are tried.
fn rules_of(
    profile: &Seccomp,
    architecture: &Architecture,
    default: u32,
) -> Result<BTreeMap<u32, Vec<Rule>>, Failure> {
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for entry in &profile.syscalls {
        let value = action_value(entry.action, entry.errno_ret)?;
        check_conditions(&entry.args)?;
        if value == default {
            continue;
        }
        for number in entry.names.iter().filter_map(|name| architecture.number(name)) {
            let list = rules.entry(number).or_default();
            if list.iter().any(|rule| rule.conditions.is_empty()) {
                continue;
            }
            if entry.args.is_empty() {
                list.clear();
            }
            for conditions in alternatives(&entry.args) {
                list.push(Rule { conditions, value });
            }
        }
    }
    Ok(rules)
}

fn check_conditions(conditions: &[Argument]) -> Result<(), Failure> {
    match conditions.iter().find(|condition| condition.index > 5) {
        Some(bad) => {
            Err(Failure::configuration(format_args!("seccomp: argument index {}", bad.index)))
        }
        None => Ok(()),
    }
}

/// Conditions on the same argument are alternatives, each a rule of its own (as runc).
fn alternatives(conditions: &[Argument]) -> Vec<Vec<Argument>> {
    let repeated = conditions.iter().enumerate().any(|(position, condition)| {
        conditions[..position].iter().any(|earlier| earlier.index == condition.index)
    });
    if repeated {
        conditions.iter().map(|condition| vec![*condition]).collect()
    } else {
        vec![conditions.to_vec()]
    }
}

/// The highest number that the profile knows, if calls above it shall fail with ENOSYS: not where
/// the default action lets calls through, or a tracer decide on them.
fn enosys_above(profile: &Seccomp, architecture: &Architecture) -> Option<u32> {
    let lets_through =
        matches!(profile.default_action, Action::Allow | Action::Log | Action::Trace);
    if lets_through || profile.default_errno_ret == Some(ENOSYS) {
        return None;
    }
    let names = profile.syscalls.iter().flat_map(|entry| &entry.names);
    names.filter_map(|name| architecture.number(name)).max()
}

#[cfg(test)]
mod tests;
