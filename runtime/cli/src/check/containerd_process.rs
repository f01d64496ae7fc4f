//! Finds containerd: the binary, and the running daemon with its environment and arguments.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Directories searched after `PATH`, for a `PATH` as short as a service's.
const USUAL: [&str; 4] = ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin"];

/// Time that `containerd --version` may take; seconds on an emulated host with a cold cache.
const VERSION_BUDGET: Duration = Duration::from_secs(20);

/// What is known of containerd on this host.
#[derive(Debug, Default)]
pub(super) struct Containerd {
    /// The binary: that of the running daemon, else the first in the search path.
    pub(super) binary: Option<PathBuf>,
    /// Whether a daemon is running.
    pub(super) running: bool,
    /// Configuration file that the running daemon was started with, if it names one.
    pub(super) config: Option<PathBuf>,
    /// Directories in which it looks for shims: its own `PATH`, or ours, then the binary's own.
    pub(super) shim_dirs: Vec<PathBuf>,
    /// What it says about its version, if it could be asked.
    pub(super) version: Option<String>,
}

/// Looks for containerd in `/proc` and in the search path.
pub(super) fn find() -> Containerd {
    let daemon = processes().find(|process| {
        fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "containerd")
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = match daemon {
        Some(process) => running(&process, path),
        None => Containerd { shim_dirs: split(path), ..Containerd::default() },
    };
    if found.binary.is_none() {
        let usual = USUAL.iter().map(PathBuf::from);
        found.binary = search(found.shim_dirs.iter().cloned().chain(usual), "containerd");
    }
    if let Some(directory) = found.binary.as_deref().and_then(Path::parent) {
        found.shim_dirs.push(directory.to_owned());
    }
    found.version = found.binary.as_deref().and_then(ask_version);
    found
}

/// The first directory's file of that name.
pub(super) fn search(
    directories: impl IntoIterator<Item = PathBuf>,
    name: &str,
) -> Option<PathBuf> {
    directories.into_iter().map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numeric = entries.filter(|e| e.file_name().as_encoded_bytes()[0].is_ascii_digit());
    numeric.map(|entry| entry.path())
}

fn running(process: &Path, our_path: OsString) -> Containerd {
    let strings = |name| nul_separated(&fs::read(process.join(name)).unwrap_or_default());
    let path = variable(&strings("environ"), "PATH").unwrap_or(our_path);
    Containerd {
        binary: fs::read_link(process.join("exe")).ok().filter(|file| file.is_file()),
        running: true,
        config: config_argument(&strings("cmdline")),
        shim_dirs: split(path),
        version: None,
    }
}

fn split(path: OsString) -> Vec<PathBuf> {
    std::env::split_paths(&path).collect()
}

fn nul_separated(bytes: &[u8]) -> Vec<OsString> {
    bytes.split(|byte| *byte == 0).map(|part| OsString::from_vec(part.to_vec())).collect()
}

fn variable(environment: &[OsString], name: &str) -> Option<OsString> {
    environment.iter().find_map(|entry| {
        let value = entry.as_encoded_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(OsString::from_vec(value.to_vec()))
    })
}

/// The value of `-c` or `--config`, in both spellings.
fn config_argument(arguments: &[OsString]) -> Option<PathBuf> {
    let names = ["-c", "--c", "-config", "--config"];
    arguments.iter().enumerate().find_map(|(i, argument)| {
        let text = argument.to_str()?;
        if names.contains(&text) {
            return arguments.get(i + 1).map(PathBuf::from);
        }
        let (name, value) = text.split_once('=')?;
        names.contains(&name).then(|| value.into())
    })
}

/// Output of `containerd --version`, unless it takes longer than [`VERSION_BUDGET`].
fn ask_version(binary: &Path) -> Option<String> {
    let mut child = Command::new(binary)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    if !ended(&child) {
        // Both fail only if it has ended by now.
        drop(child.kill());
        drop(child.wait());
        return None;
    }
    let output = child.wait_with_output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Waits for the end of a child that writes less than a pipe holds.
fn ended(child: &Child) -> bool {
    let Ok(pidfd) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else {
        return false;
    };
    let Ok(budget) = Timespec::try_from(VERSION_BUDGET) else {
        return false;
    };
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&budget)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_file_is_read_from_the_arguments() {
        let config = |line: &[u8]| config_argument(&nul_separated(line));
        assert_eq!(config(b"containerd\0--config\0/a.toml\0"), Some("/a.toml".into()));
        assert_eq!(config(b"containerd\0--log-level=debug\0-c=/b\0"), Some("/b".into()));
        assert_eq!(config(b"containerd\0--root\0/x\0"), None);
    }

    #[test]
    fn a_variable_is_matched_by_its_whole_name() {
        let environment = nul_separated(b"XPATH=/no\0PATHS=/no\0PATH=/usr/bin:/bin\0");
        assert_eq!(variable(&environment, "PATH"), Some("/usr/bin:/bin".into()));
    }

    #[test]
    fn search_takes_the_first_file() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(a.join("shim")).unwrap();
        fs::create_dir_all(&b).unwrap();
        fs::write(b.join("shim"), "").unwrap();
        assert_eq!(search([a, b.clone()], "shim"), Some(b.join("shim")));
    }
}
