//! `process.cwd`, `args` and `env`: where and what to execute. Messages are those of runc, which
//! people and tests search for.

use std::ffi::{CStr, CString};
use std::os::unix::fs::PermissionsExt;

use rustix::io::Errno;

use crate::control::Failure;
use crate::oci::Process;
use crate::sys;

/// PATH where the environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that was found and may be executed.
#[derive(Debug)]
pub(super) struct Program {
    path: CString,
}

/// Changes to the working directory. That of a container has been made with its root. Where `retry`
/// says that there is another user to try it as, false tells that this one is not permitted.
///
/// # Errors
/// It can't be entered, or is not below the container's root.
pub(super) fn enter_directory(process: &Process, retry: bool) -> Result<bool, Failure> {
    let directory = &process.cwd;
    if !directory.is_absolute() {
        return Err(Failure::configuration(format_args!("cwd {directory:?}: not absolute")));
    }
    match rustix::process::chdir(directory) {
        Ok(()) => check_directory().map(|()| true),
        Err(Errno::ACCESS | Errno::PERM) if retry => Ok(false),
        Err(error) => {
            let reason = text(&error.into());
            Err(Failure::program(format_args!(
                "chdir to cwd ({directory:?}) set in config.json failed: {reason}"
            )))
        }
    }
}

/// Refuses a working directory that is not below the container's root. The attack: one behind a
/// link of /proc that leads into the guest's own root (runc's CVE-2024-21626). getcwd(2) says
/// `(unreachable)/…` there.
fn check_directory() -> Result<(), Failure> {
    let outside = |found: &dyn std::fmt::Debug| {
        Failure::program(format_args!(
            "current working directory is outside of container mount namespace root -- \
             possible container breakout detected: {found:?}"
        ))
    };
    let found = rustix::process::getcwd(Vec::new()).map_err(|error| outside(&error))?;
    if found.to_bytes().starts_with(b"/") { Ok(()) } else { Err(outside(&found)) }
}

/// Finds the program as execvp(3) would, and checks that it can be executed.
pub(super) fn find(process: &Process) -> Result<Program, Failure> {
    let name = process
        .args
        .first()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Failure::configuration("args: no program is named"))?;
    if name.contains('/') {
        return check(name).map_err(|reason| {
            let doing = if reason.contains("no such file") { "stat " } else { "" };
            Failure::program(match doing {
                "" => format!("exec: {name:?}: {reason}"),
                _ => format!("exec: {name:?}: stat {name}: {reason}"),
            })
        });
    }
    let path = process.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    let mut denied = false;
    for directory in path.unwrap_or(DEFAULT_PATH).split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        match check(&format!("{directory}/{name}")) {
            Ok(program) => return Ok(program),
            Err(reason) => denied |= reason.contains("permission denied"),
        }
    }
    Err(Failure::program(if denied {
        format!("exec: {name:?}: permission denied")
    } else {
        format!("exec: {name:?}: executable file not found in $PATH")
    }))
}

fn check(path: &str) -> Result<Program, &'static str> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => "permission denied",
        _ => "no such file or directory",
    })?;
    if metadata.is_dir() {
        return Err("is a directory");
    }
    let effective = rustix::fs::accessat(
        rustix::fs::CWD,
        path,
        rustix::fs::Access::EXEC_OK,
        rustix::fs::AtFlags::EACCESS,
    );
    if metadata.permissions().mode() & 0o111 == 0 || effective.is_err() {
        return Err("permission denied");
    }
    Ok(Program { path: CString::new(path).map_err(|_| "no such file or directory")? })
}

impl Program {
    /// Executes the program, whose environment gets `home` (`HOME=…`) if it states none. Returns only
    /// on failure.
    pub(super) fn execute(&self, process: &Process, home: &CStr) -> Failure {
        let strings = |list: &[String]| -> Result<Vec<CString>, Failure> {
            let strings = list.iter().map(|text| CString::new(text.as_str()));
            strings
                .collect::<Result<_, _>>()
                .map_err(|_| Failure::configuration("args or env contain a NUL byte"))
        };
        let (arguments, mut environment) = match (strings(&process.args), strings(&process.env)) {
            (Ok(arguments), Ok(environment)) => (arguments, environment),
            (Err(failure), _) | (_, Err(failure)) => return failure,
        };
        if !environment.iter().any(|entry| entry.to_bytes().starts_with(b"HOME=")) {
            environment.push(home.to_owned());
        }
        let error = sys::process::execve(&self.path, &arguments, &environment);
        Failure::program(format_args!("exec {}: {}", self.path.to_string_lossy(), text(&error)))
    }
}

/// The kernel's answers as runc words them.
fn text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file or directory".to_owned(),
        Some(libc::ENOEXEC) => "exec format error".to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Process, check, find};
    use crate::control::FailureKind;

    fn process(program: &str, path: &str) -> Process {
        Process {
            args: vec![program.to_owned()],
            env: vec![format!("PATH={path}")],
            ..Process::default()
        }
    }

    #[test]
    fn a_missing_program_is_named_as_runc_does() {
        let failure = find(&process("xyz", "/bin:/usr/bin")).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Program);
        assert_eq!(failure.message, r#"exec: "xyz": executable file not found in $PATH"#);
        let failure = find(&process("/no/such", "")).unwrap_err();
        assert_eq!(
            failure.message,
            r#"exec: "/no/such": stat /no/such: no such file or directory"#
        );
    }

    #[test]
    fn what_cannot_be_executed_is_refused() {
        assert_eq!(check("/etc").unwrap_err(), "is a directory");
        assert_eq!(check("/etc/passwd").unwrap_err(), "permission denied");
        assert!(find(&process("sh", "/nowhere:/bin")).is_ok());
        assert!(find(&process("/bin/sh", "")).is_ok());
    }
}
