//! Mounts that a container in a user namespace may not make. Some are filesystems that show
//! namespaces which it shares: only the owner of such a namespace may mount them. The others are
//! mounts of the guest's filesystems with mapped ids. They are made before the user namespace is
//! entered, and attached nowhere. At that point /proc still knows the children of this process by
//! their ids.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::detached::{filesystem, mapped_bind};
use super::failure::Context;
use crate::control::{self, Command, Failure, Incoming};
use crate::oci::{NamespaceType, Spec, kind_of};
use crate::sys::process::{self, Fork};

/// Mounts by their index in the configuration.
#[derive(Debug, Default)]
pub(super) struct Premade(BTreeMap<usize, OwnedFd>);

/// Makes what `spec` asks for and could not have later; after shared namespaces are joined, and
/// before the user namespace is entered.
pub(super) fn make(spec: &Spec) -> Result<Premade, Failure> {
    let mut premade = Premade::default();
    let user = spec.linux.namespace(NamespaceType::User).is_some();
    for (index, mount) in spec.mounts.iter().enumerate() {
        let made = match kind_of(mount) {
            "mqueue" if user && !spec.linux.is_new(NamespaceType::Ipc) => {
                Some(filesystem("mqueue", None, &[]).context("mount mqueue")?)
            }
            "proc" if user && !spec.linux.is_new(NamespaceType::Pid) => Some(proc_of_children()?),
            _ => mapped_bind(spec, mount).map_err(|reason| {
                let destination = mount.destination();
                Failure::configuration(format_args!("error mounting {destination:?}: {reason}"))
            })?,
        };
        premade.0.extend(made.map(|made| (index, made)));
    }
    Ok(premade)
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
    /// The mount of this index, if it was made.
    pub(super) fn take(&mut self, index: usize) -> Option<OwnedFd> {
        self.0.remove(&index)
    }
}
