//! The pod's pid namespace, for containers that share process ids (`shareProcessNamespace`). Its
//! first process is this program under the name of [`NAME`]: it adopts what the containers leave
//! and does nothing else. The namespace is made when the first container asks for it and lives as
//! long as the guest.
//!
//! The containers see little of the first process. Its root is an empty, read-only filesystem. It
//! keeps all capabilities, so that no container without them may look into it.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::sys::process::{Fork, fork, unshare};
use crate::sys::signal;

/// The word by which the agent calls itself to be the namespace's first process.
pub(crate) const NAME: &str = "pod-init";

/// The namespace, once a container asks for it.
#[derive(Debug, Default)]
pub(crate) struct PodPids {
    first: OnceCell<i32>,
}

impl PodPids {
    /// The path by which the namespace is entered.
    ///
    /// # Errors
    /// It can't be made.
    pub(crate) async fn path(&self) -> Result<PathBuf> {
        let first = self.first.get_or_try_init(|| async {
            let made = tokio::task::spawn_blocking(make).await.map_err(io::Error::other);
            made.flatten().map_err(Error::io("make the pod's pid namespace"))
        });
        Ok(format!("/proc/{}/ns/pid", first.await?).into())
    }
}

/// Starts the first process; returns its id in this namespace.
fn make() -> io::Result<i32> {
    let mut child = std::process::Command::new("/proc/self/exe");
    child.arg0(NAME).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = child.spawn()?;
    let mut said = String::new();
    // The other side is closed when both of its processes have done their part, or have ended.
    match child.stdout.take() {
        Some(mut stdout) => io::Read::read_to_string(&mut stdout, &mut said)?,
        None => 0,
    };
    // The reaper collects what ended.
    drop(child);
    said.parse().map_err(|_| io::Error::other(said))
}

/// Runs this program: its first process makes the namespace and tells the second one's id, or why
/// not, on its standard output; the second stays.
pub(crate) fn main() -> ExitCode {
    let outcome = run();
    let said = match &outcome {
        Ok(pid) => pid.to_string(),
        Err(error) => error.to_string(),
    };
    let told = rustix::io::write(rustix::stdio::stdout(), said.as_bytes());
    if outcome.is_ok() && told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run() -> io::Result<i32> {
    unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS)?;
    let (done, ready) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match fork()? {
        Fork::Parent(pid) => {
            drop(ready);
            let mut byte = [0; 1];
            match rustix::io::read(&done, &mut byte)? {
                0 => Err(io::Error::other("its first process ended")),
                _ => Ok(pid),
            }
        }
        Fork::Child => {
            if enter_empty_root().is_err() {
                std::process::exit(1);
            }
            rustix::process::setsid()?;
            signal::let_children_go();
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
            rustix::io::write(&ready, &[1])?;
            // The parent's output ends only when this one has let go of it as well.
            let null = rustix::stdio::stdin();
            rustix::stdio::dup2_stdout(null)?;
            loop {
                std::thread::park();
            }
        }
    }
}

fn enter_empty_root() -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", "/run", "tmpfs", flags, c"size=0")?;
    rustix::process::chdir("/run")?;
    // The old root ends up on top of the new one (pivot_root(2), "pivot_root(".", ".")").
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}
