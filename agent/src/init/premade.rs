//! Filesystems that show namespaces which a container does not make but shares. Only who rules
//! over such a namespace may mount them, which a container in a user namespace of its own does
//! not: they are mounted, attached nowhere, before it is entered.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::failure::Context;
use super::mounts::filesystem;
use crate::control::{self, Command, Failure, Incoming};
use crate::oci::{NamespaceType, Spec};
use crate::sys::process::{self, Fork};

/// What a container may mount once each.
#[derive(Debug, Default)]
pub(super) struct Premade {
    proc: Option<OwnedFd>,
    mqueue: Option<OwnedFd>,
}

/// Mounts what `spec` asks for and could not mount later; after shared namespaces are joined, and
/// before the user namespace is made.
pub(super) fn make(spec: &Spec) -> Result<Premade, Failure> {
    let mut premade = Premade::default();
    if !spec.linux.is_new(NamespaceType::User) {
        return Ok(premade);
    }
    if shares(spec, NamespaceType::Ipc, "mqueue") {
        premade.mqueue = Some(filesystem("mqueue", None, &[]).context("mount mqueue")?);
    }
    if shares(spec, NamespaceType::Pid, "proc") {
        premade.proc = Some(proc_of_children()?);
    }
    Ok(premade)
}

fn shares(spec: &Spec, namespace: NamespaceType, kind: &str) -> bool {
    !spec.linux.is_new(namespace) && spec.mounts.iter().any(|mount| mount.kind == kind)
}

/// proc of the pid namespace that this process has joined: its children are in it, not itself.
fn proc_of_children() -> Result<OwnedFd, Failure> {
    let (ours, theirs) = UnixStream::pair().context("make a channel")?;
    let child = match process::fork().context("fork for /proc")? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            let sent = filesystem("proc", None, &[])
                .map_err(std::io::Error::from)
                .and_then(|proc| control::send(theirs.as_fd(), &Command::Proceed, &[proc.as_fd()]));
            std::process::exit(i32::from(sent.is_err()));
        }
    };
    drop(theirs);
    let mut incoming = Incoming::default();
    let sent: Option<Command> =
        control::receive(&ours, &mut incoming).context("mount /proc of a shared namespace")?;
    let _ = rustix::process::waitpid(
        rustix::process::Pid::from_raw(child),
        rustix::process::WaitOptions::empty(),
    );
    let mut received = incoming.take_descriptors();
    sent.and_then(|_| received.pop())
        .ok_or_else(|| Failure::guest("mount /proc of a shared namespace"))
}

impl Premade {
    /// The filesystem of this type, if it is here and was not taken before.
    pub(super) fn take(&mut self, kind: &str) -> Option<OwnedFd> {
        match kind {
            "proc" => self.proc.take(),
            "mqueue" => self.mqueue.take(),
            _ => None,
        }
    }
}
