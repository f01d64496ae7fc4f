//! Which system calls a container may make.
//!
//! The default is data: `seccomp/default.rules`, and the rules about arguments below.

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};
use protocol::cri::SecurityProfile;
use serde_json::Value;

use super::SpecError;
use super::error::shown;
use super::profile::{self, Profile};

const RULES: &str = include_str!("seccomp/default.rules");

/// The flags of clone(2) that make a namespace: mount, cgroup, UTS, IPC, user, pid, network.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Linux's error number for a call that it does not have.
const ENOSYS: u32 = 38;

/// Personalities that change no more than what `uname` says (0, `PER_LINUX32`, `UNAME26`, both),
/// and the question which one it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Address family of the kernel's crypto, a source of holes. See [`AF_VSOCK`].
const AF_ALG: u64 = 38;

/// Address family of what is outside of a machine: in one of ours, the shim and the agent.
const AF_VSOCK: u64 = 40;

/// What was asked for, and by whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// The message, if there is one.
    pub(super) profile: Option<&'a SecurityProfile>,
    /// The text of older kubelets.
    pub(super) text: &'a str,
    /// Whether the container is privileged.
    pub(super) privileged: bool,
    /// What is in the profile of the node that was asked for.
    pub(super) content: Option<&'a str>,
}

/// The path of the profile on the node that was asked for, which the caller has to read.
///
/// # Errors
/// See [`profile::read`].
pub(super) fn localhost(request: &Request<'_>) -> Result<Option<String>, SpecError> {
    let asked = profile::read("seccomp", request.profile, request.text)?;
    Ok(match asked {
        Some(Profile::Localhost(path)) if !request.privileged => Some(path),
        _ => None,
    })
}

/// The filter; none to go without, as when nobody asks for one.
///
/// # Errors
/// A profile that can't be had.
pub(super) fn seccomp(
    request: &Request<'_>,
    supported: bool,
    bounding: &Capabilities,
) -> Result<Option<LinuxSeccomp>, SpecError> {
    let asked = profile::read("seccomp", request.profile, request.text)?;
    let Some(asked) = asked.filter(|_| !request.privileged) else { return Ok(None) };
    match asked {
        Profile::Unconfined => Ok(None),
        _ if !supported => Err(bad("seccomp is not supported on this node".to_owned())),
        Profile::RuntimeDefault => Ok(Some(default(bounding))),
        Profile::Localhost(path) => match request.content {
            Some(content) => parse(&path, content).map(Some),
            None => Err(bad(format!("profile {} was not read", shown(&path)))),
        },
    }
}

/// Reads a profile of the node. Architectures that are unknown here are left out: none of ours.
fn parse(path: &str, content: &str) -> Result<LinuxSeccomp, SpecError> {
    let wrong = |error: serde_json::Error| {
        bad(shown(&format!("cannot load seccomp profile {path}: {error}")))
    };
    let mut json: Value = serde_json::from_str(content).map_err(wrong)?;
    if let Some(list) = json.pointer_mut("/architectures").and_then(Value::as_array_mut) {
        list.retain(|name| serde_json::from_value::<Arch>(name.clone()).is_ok());
    }
    serde_json::from_value(json).map_err(wrong)
}

/// The default profile for a process with these capabilities.
fn default(bounding: &Capabilities) -> LinuxSeccomp {
    let admin = bounding.contains(&Capability::SysAdmin);
    let mut syscalls = Vec::new();
    for (capability, names) in sections() {
        if capability.is_none_or(|capability| bounding.contains(&capability)) {
            syscalls.push(rule(names, LinuxSeccompAction::ScmpActAllow));
        }
    }
    for value in PERSONALITIES {
        syscalls.push(where_first("personality", LinuxSeccompOperator::ScmpCmpEq, value));
    }
    // Ranges, as two conditions on one argument are alternatives to runc.
    for (operator, value) in [
        (LinuxSeccompOperator::ScmpCmpLt, AF_ALG),
        (LinuxSeccompOperator::ScmpCmpEq, AF_ALG + 1),
        (LinuxSeccompOperator::ScmpCmpGt, AF_VSOCK),
    ] {
        syscalls.push(where_first("socket", operator, value));
    }
    if !admin {
        let masked = LinuxSeccompOperator::ScmpCmpMaskedEq;
        syscalls.push(where_first("clone", masked, CLONE_NAMESPACES));
        // Its flags are in memory. Told that it is missing, libraries take clone.
        let mut refused = rule(vec!["clone3".to_owned()], LinuxSeccompAction::ScmpActErrno);
        refused.set_errno_ret(Some(ENOSYS));
        syscalls.push(refused);
    }
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    let architectures = vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];
    profile.set_architectures(Some(architectures)).set_syscalls(Some(syscalls));
    profile
}

/// The sections of the rules: what they need, and the calls.
fn sections() -> Vec<(Option<Capability>, Vec<String>)> {
    let lines = RULES.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let mut sections: Vec<(Option<Capability>, Vec<String>)> = Vec::new();
    for line in lines {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections.push((name.parse().ok(), Vec::new()));
        } else if let Some((_, names)) = sections.last_mut() {
            names.extend(line.split_whitespace().map(str::to_owned));
        }
    }
    sections
}

fn rule(names: Vec<String>, action: LinuxSeccompAction) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names).set_action(action);
    rule
}

/// A call that is allowed where its first argument is so. Masked, it is where no bit is set.
fn where_first(name: &str, operator: LinuxSeccompOperator, value: u64) -> LinuxSyscall {
    let argument = LinuxSeccompArgBuilder::default().index(0_usize).value(value).op(operator);
    let masked = operator == LinuxSeccompOperator::ScmpCmpMaskedEq;
    let argument = if masked { argument.value_two(0_u64) } else { argument };
    // The builder checks nothing, so it can't fail.
    let argument = argument.build().unwrap_or_default();
    let mut rule = rule(vec![name.to_owned()], LinuxSeccompAction::ScmpActAllow);
    rule.set_args(Some(vec![argument]));
    rule
}

fn bad(reason: String) -> SpecError {
    SpecError::Confinement { what: "seccomp", reason }
}

#[cfg(test)]
mod tests;
