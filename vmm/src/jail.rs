//! The jail that the VMM enters before the guest runs: nothing of the host is left to name.
//!
//! ```text
//! before                              after
//! the host's mounts, as started by    only the pod's share as `/`, as a slave of the host's
//! the shim                            mounts, so that what is mounted below it later appears;
//!                                     without a share an empty read-only tmpfs
//! host network, IPC, UTS, cgroup      empty namespaces of its own
//! root's capabilities                 those that serving the share needs; none without one
//! may gain privileges by exec         may not (no_new_privs), and seccomp has no exec
//! ```
//!
//! User and PID namespaces are not made here: see `docs/decisions/jail.md`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsmount, fsopen, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

/// A step into the jail that failed.
#[derive(Debug, thiserror::Error)]
#[error("jail: {action}")]
pub(crate) struct JailError {
    action: &'static str,
    source: Errno,
}

fn step(action: &'static str) -> impl Fn(Errno) -> JailError {
    move |source| JailError { action, source }
}

/// Capabilities that serving a share takes, for a server that acts for all users of a guest.
/// Without a share none is left.
const SHARE_CAPABILITIES: &[(CapabilitySet, &str)] = &[
    (CapabilitySet::CHOWN, "chown by the guest's root"),
    (CapabilitySet::DAC_OVERRIDE, "the guest's kernel checks permissions, the host's must not"),
    (CapabilitySet::DAC_READ_SEARCH, "opening files by handle, searching any directory"),
    (CapabilitySet::FOWNER, "chmod and times of files of any user"),
    (CapabilitySet::FSETID, "set-group-id bits survive a write by the guest's root"),
    (CapabilitySet::SETUID, "files are made as the guest's user"),
    (CapabilitySet::SETGID, "files are made with the guest's group"),
    (CapabilitySet::MKNOD, "device nodes and whiteouts; the share is nodev for this process"),
    (CapabilitySet::SETFCAP, "file capabilities, which package managers set"),
];

/// Descriptors that a VMM without a share can need: 64 devices with a few each.
const MAX_FILES: u64 = 1024;

/// Descriptors with a share: the guest's kernel holds one per file that it caches. The attack:
/// a guest that opens files without end; it then gets EMFILE and nobody else is hurt.
const MAX_FILES_WITH_SHARE: u64 = 1 << 20;

/// Enters the jail with the directory `share` as its only content. The process must have
/// a single thread.
///
/// # Errors
/// [`JailError`]; the process is then in no defined state and must end.
pub(crate) fn enter(share: Option<BorrowedFd<'_>>) -> Result<(), JailError> {
    let root = match share {
        Some(share) => clone_tree(share)?,
        None => empty_tree()?,
    };
    limit_resources(share.is_some())?;
    leave_namespaces()?;
    change_root(&root)?;
    rustix::process::umask(Mode::empty());
    drop_capabilities(share.is_some())?;
    rustix::thread::set_no_new_privs(true).map_err(step("forbid new privileges"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(step("forbid core dumps and tracing"))
}

/// A copy of the mounts at and below `share`, which goes on receiving the host's.
fn clone_tree(share: BorrowedFd<'_>) -> Result<OwnedFd, JailError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(share, "", flags).map_err(step("clone the share's mounts (are you root?)"))
}

/// An empty file system that nobody can write to.
fn empty_tree() -> Result<OwnedFd, JailError> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(step("make an empty root (are you root?)"))?;
    fsconfig_create(context.as_fd()).map_err(step("make an empty root"))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(step("make an empty root"))
}

#[allow(unsafe_code, reason = "unshare is unsafe for its flag that takes descriptors apart")]
fn leave_namespaces() -> Result<(), JailError> {
    let flags = UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    // SAFETY: the flag that would make it unsafe, FILES, is not among these.
    let left = unsafe { rustix::thread::unshare_unsafe(flags) };
    left.map_err(step("leave the host's namespaces"))
}

/// Makes `root` the root directory and forgets the old one.
fn change_root(root: &OwnedFd) -> Result<(), JailError> {
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    // Nothing that happens here may reach the host's mounts.
    mount_change("/", slave).map_err(step("detach from the host's mounts"))?;
    move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(step("mount the new root"))?;
    rustix::process::fchdir(root).map_err(step("go to the new root"))?;
    mount_change(".", slave).map_err(step("make the new root follow the host's mounts"))?;
    rustix::process::pivot_root(".", ".").map_err(step("change root"))?;
    // The old root is now mounted on top of the new one.
    unmount(".", UnmountFlags::DETACH).map_err(step("forget the old root"))?;
    rustix::process::chdir("/").map_err(step("go to the new root"))
}

fn limit_resources(share: bool) -> Result<(), JailError> {
    let files = if share { MAX_FILES_WITH_SHARE } else { MAX_FILES };
    let limit = |current| Rlimit { current: Some(current), maximum: Some(current) };
    // Memory of a guest must not end up in a core file.
    rustix::process::setrlimit(Resource::Core, limit(0)).map_err(step("forbid core files"))?;
    rustix::process::setrlimit(Resource::Nofile, limit(files)).map_err(step("limit open files"))
}

fn drop_capabilities(share: bool) -> Result<(), JailError> {
    let mut kept = CapabilitySet::empty();
    if share {
        SHARE_CAPABILITIES.iter().for_each(|(capability, _)| kept |= *capability);
    }
    rustix::thread::clear_ambient_capability_set().map_err(step("drop ambient capabilities"))?;
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // The kernel answers EINVAL for the first capability that it does not know.
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) if !kept.contains(capability) => {
                rustix::thread::remove_capability_from_bounding_set(capability)
                    .map_err(step("shrink the capability bounding set"))?;
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(step("drop capabilities"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_capability_reaches_beyond_files() {
        let beyond = CapabilitySet::SYS_ADMIN
            | CapabilitySet::SYS_PTRACE
            | CapabilitySet::SYS_MODULE
            | CapabilitySet::SYS_RAWIO
            | CapabilitySet::NET_ADMIN
            | CapabilitySet::NET_RAW
            | CapabilitySet::KILL;
        for (capability, reason) in SHARE_CAPABILITIES {
            assert!(!beyond.intersects(*capability), "{reason}");
        }
    }
}
