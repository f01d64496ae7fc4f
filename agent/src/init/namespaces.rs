//! `linux.namespaces`: joins those with a path, makes the others.
//!
//! Those to join come first, while this process may join all of them; then the user namespace, so
//! that it owns those that are made. The cgroup namespace comes last, in the second process,
//! because it shows the cgroup in which its maker is at that moment.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use super::failure::Context;
use super::outside::Outside;
use super::premade::{self, Premade};
use super::user_namespace;
use crate::control::Failure;
use crate::oci::linux::Namespace;
use crate::oci::{Linux, NamespaceType, Spec};
use crate::sys::net::bring_up_loopback;
use crate::sys::process;

/// The `CLONE_NEW…` flag of a kind.
const fn flag(kind: NamespaceType) -> libc::c_int {
    match kind {
        NamespaceType::User => libc::CLONE_NEWUSER,
        NamespaceType::Network => libc::CLONE_NEWNET,
        NamespaceType::Ipc => libc::CLONE_NEWIPC,
        NamespaceType::Uts => libc::CLONE_NEWUTS,
        NamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
        // libc has no CLONE_NEWTIME for this target.
        NamespaceType::Time => 0x80,
        NamespaceType::Pid => libc::CLONE_NEWPID,
        NamespaceType::Mount => libc::CLONE_NEWNS,
    }
}

/// Enters the namespaces of a container to be made, up to the fork. Returns what it may mount of
/// those that it shares.
pub(super) fn enter(spec: &Spec) -> Result<Premade, Failure> {
    let linux = &spec.linux;
    let mut joined = open_joined(linux)?;
    joined.sort_by_key(|(kind, _)| *kind);
    let (users, others): (Vec<_>, Vec<_>) =
        joined.iter().partition(|(kind, _)| *kind == NamespaceType::User);
    join(&others)?;
    let premade = premade::make(spec)?;
    let offsets = time_offsets(linux)?;
    if linux.is_new(NamespaceType::User) {
        user_namespace::enter_new(linux)?;
    } else if !users.is_empty() {
        join(&users)?;
        user_namespace::become_root()?;
    }
    // A mount namespace is made even if none is asked for: mounts of a container must never
    // appear in the agent's.
    let mut made = if joined.iter().any(|(kind, _)| *kind == NamespaceType::Mount) {
        0
    } else {
        libc::CLONE_NEWNS
    };
    for kind in [
        NamespaceType::Network,
        NamespaceType::Ipc,
        NamespaceType::Uts,
        NamespaceType::Time,
        NamespaceType::Pid,
    ] {
        if linux.is_new(kind) {
            made |= flag(kind);
        }
    }
    process::unshare(made).context("make namespaces")?;
    // Possible only before the first process of the time namespace exists.
    if let Some(offsets) = offsets {
        offsets
            .act()
            .map_err(|error| Failure::configuration(format_args!("set time offsets: {error}")))?;
    }
    if linux.is_new(NamespaceType::Network) {
        // As runc: a network of one's own has at least a working loopback.
        bring_up_loopback().context("bring up loopback")?;
    }
    Ok(premade)
}

fn join(namespaces: &[&(NamespaceType, File)]) -> Result<(), Failure> {
    namespaces.iter().try_for_each(|(kind, file)| {
        process::setns(file.as_fd(), flag(*kind))
            .with_context(|| format!("join the {kind:?} namespace"))
    })
}

/// Makes the cgroup namespace, when this process is in the container's cgroup.
pub(super) fn enter_new_cgroup(linux: &Linux) -> Result<(), Failure> {
    if !linux.is_new(NamespaceType::Cgroup) {
        return Ok(());
    }
    process::unshare(libc::CLONE_NEWCGROUP).context("make the cgroup namespace")
}

/// Enters the namespaces of a running container by its init process.
pub(super) fn join_container(linux: &Linux, init: BorrowedFd<'_>) -> Result<(), Failure> {
    let mut flags = libc::CLONE_NEWNS;
    for namespace in &linux.namespaces {
        flags |= flag(namespace.kind);
    }
    process::setns(init, flags).context("join the container's namespaces")?;
    if linux.namespace(NamespaceType::User).is_some() {
        user_namespace::become_root()?;
    }
    Ok(())
}

fn open_joined(linux: &Linux) -> Result<Vec<(NamespaceType, File)>, Failure> {
    let mut joined = Vec::new();
    for namespace in &linux.namespaces {
        let Namespace { kind, .. } = *namespace;
        let Some(path) = namespace.path() else { continue };
        let file = File::open(path).map_err(|error| {
            Failure::configuration(format_args!("open {}: {error}", path.display()))
        })?;
        joined.push((kind, file));
    }
    Ok(joined)
}

/// `linux.timeOffsets`, to be written for a time namespace that is still to be made.
fn time_offsets(linux: &Linux) -> Result<Option<Outside>, Failure> {
    let lines: String = linux
        .time_offsets
        .iter()
        .map(|(clock, offset)| {
            let (seconds, rest) = (offset.secs(), offset.nanosecs());
            format!("{clock} {} {}\n", seconds.unwrap_or(0), rest.unwrap_or(0))
        })
        .collect();
    if lines.is_empty() || !linux.is_new(NamespaceType::Time) {
        return Ok(None);
    }
    let write = move |pid| std::fs::write(format!("/proc/{pid}/timens_offsets"), lines);
    Outside::prepare(write).map(Some)
}
