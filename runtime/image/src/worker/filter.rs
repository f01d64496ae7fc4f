//! The system calls of a worker: `seccomp/worker.json`, which says why of each.
//!
//! Any other fails with `EPERM`. It does not kill: nothing that a worker has is worth the pull that
//! meets a rare call of a library.

use std::collections::HashMap;

use seccompiler::{BpfProgram, TargetArch};

const RULES: &[u8] = include_bytes!("../../seccomp/worker.json");

/// What can't be installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// The rules are wrong, or the kernel has no filters.
    #[error(transparent)]
    Library(#[from] seccompiler::Error),
    /// A part of the rules is missing.
    #[error("there are no rules for {0}")]
    Missing(&'static str),
}

/// Restricts this thread, and those that it makes, for good.
pub(super) fn install() -> Result<(), FilterError> {
    let all = compile()?;
    for name in ["threads", "worker"] {
        seccompiler::apply_filter(all.get(name).ok_or(FilterError::Missing(name))?)?;
    }
    Ok(())
}

fn compile() -> Result<HashMap<String, BpfProgram>, seccompiler::Error> {
    seccompiler::compile_from_json(RULES, TargetArch::x86_64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_their_reasons_and_name_neither_files_nor_programs() {
        let rules: serde_json::Value = serde_json::from_slice(RULES).unwrap();
        let allowed = rules["worker"]["filter"].as_array().unwrap();
        assert!(allowed.iter().all(|rule| rule["comment"].as_str().unwrap().len() > 4));
        let by_name =
            ["open", "openat", "openat2", "execve", "execveat", "fork", "mount", "ptrace"];
        let more = ["unlink", "rename", "chmod", "kill", "bpf", "io_uring_setup", "setns", "link"];
        for name in by_name.into_iter().chain(more) {
            assert!(!allowed.iter().any(|rule| rule["syscall"] == name), "{name}");
        }
        assert_eq!(compile().unwrap().len(), 2);
    }
}
