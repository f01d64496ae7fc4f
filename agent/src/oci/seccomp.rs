//! `linux.seccomp` of config.json.

use serde::{Deserialize, Serialize};

use super::null_is_default;

/// `linux.seccomp`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seccomp {
    pub(crate) default_action: Action,
    #[serde(default)]
    pub(crate) default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_…`; empty means the native one.
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_…`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) flags: Vec<String>,
    #[serde(default)]
    pub(crate) listener_path: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) syscalls: Vec<Syscall>,
}

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// Ends the thread.
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    /// Ends the thread.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// Ends the process.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// Sends SIGSYS.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// Fails with an error number.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// Asks a tracer.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// Goes on.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// Goes on and is logged.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// Asks a supervisor on the host; refused here.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// `seccomp.syscalls[]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Syscall {
    pub(crate) names: Vec<String>,
    pub(crate) action: Action,
    #[serde(default)]
    pub(crate) errno_ret: Option<u32>,
    /// All must hold; two of the same index are alternatives, as in libseccomp's users.
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) args: Vec<Argument>,
}

/// A condition on one argument of a system call.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Argument {
    /// 0 to 5.
    pub(crate) index: u32,
    pub(crate) value: u64,
    #[serde(default)]
    pub(crate) value_two: u64,
    pub(crate) op: Operator,
}

/// How an argument is compared, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the specification's names")]
pub(crate) enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// `argument & value == valueTwo`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}
