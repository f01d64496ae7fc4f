//! The jail that the VMM enters before the guest runs: nothing of the host is left to name.
//!
//! ```text
//! before                              after
//! the host's mounts, as started by    an empty read-only tmpfs; with a share, that has
//! the shim                              /share      the pod's share, a slave of the host's
//!                                                   mounts, so that what is mounted below it
//!                                                   later appears
//!                                       /proc/self  this process's own directory, read-only:
//!                                                   the file server opens inodes by it
//! host network, IPC, UTS, cgroup      empty namespaces of its own
//! root's capabilities and groups      what serving the share needs, for the thread that serves it;
//!                                     none for any other
//! any file that a descriptor leads to what is below the share (Landlock)
//! may gain privileges by exec         may not (no_new_privs), and seccomp has no exec
//! ```
//!
//! The PID namespace is the shim's work, a user namespace is not made: see
//! `docs/decisions/jail.md`.

mod landlock;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, mkdirat, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsmount, fsopen, mount_change, mount_remount,
    move_mount, open_tree, unmount,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags};

use crate::seccomp::{self, ThreadKind};

/// A step into the jail that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JailError {
    /// The kernel refused.
    #[error("jail: {action}")]
    Step {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: Errno,
    },
    /// Landlock refused.
    #[error("jail: restrict files and signals by Landlock")]
    Landlock(#[from] ::landlock::RulesetError),
    /// The host has no seccomp filters.
    #[error("jail: restrict system calls")]
    Seccomp(#[from] seccompiler::Error),
}

fn step(action: &'static str) -> impl Fn(Errno) -> JailError {
    move |source| JailError::Step { action, source }
}

/// Capabilities that serving a share takes, for a server that acts for all users of a guest.
/// Without a share none is left.
const SHARE_CAPABILITIES: &[(CapabilitySet, &str)] = &[
    (CapabilitySet::CHOWN, "chown by the guest's root"),
    (CapabilitySet::DAC_OVERRIDE, "the guest's kernel checks permissions, the host's must not"),
    (CapabilitySet::FOWNER, "chmod and times of files of any user"),
    (CapabilitySet::FSETID, "set-group-id bits survive a write by the guest's root"),
    (CapabilitySet::SETUID, "files are made as the guest's user"),
    (CapabilitySet::SETGID, "files are made with the guest's group"),
    (
        CapabilitySet::MKNOD,
        "device nodes and whiteouts; the shim makes every mount of the share nodev",
    ),
    (CapabilitySet::SETFCAP, "file capabilities, which package managers set"),
];

/// No way leads to capabilities, and none of this can be changed. What a change of user does to
/// them stays as it is: the share's server acts as the guest's users by it.
const SECURE_BITS: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

/// Descriptors that a VMM without a share can need: 64 devices with a few each.
const MAX_FILES: u64 = 1024;

/// Descriptors with a share: the guest's kernel holds one per file that it caches. The attack:
/// a guest that opens files without end; it then gets ENFILE and nobody else is hurt.
const MAX_FILES_WITH_SHARE: u64 = 1 << 20;

/// Descriptors of these that are not for the guest's files.
const OWN_FILES: u64 = 2 * MAX_FILES;

/// Where the share is in the jail; `/proc/self` beside it works for this process.
pub(crate) const SHARE: &str = "/share";

/// Enters the jail with the directory `share` as its only content. The process must have
/// a single thread.
///
/// # Errors
/// [`JailError`]; the process is then in no defined state and must end.
pub(crate) fn enter(share: Option<BorrowedFd<'_>>) -> Result<(), JailError> {
    limit_resources(share.is_some())?;
    confine(share)
}

/// All of the jail but the limits, which only a process with `CAP_SYS_RESOURCE` can raise.
fn confine(share: Option<BorrowedFd<'_>>) -> Result<(), JailError> {
    let root = empty_tree()?;
    let content = share.map(Content::new).transpose()?;
    leave_namespaces()?;
    change_root(&root, content)?;
    rustix::process::umask(Mode::empty());
    drop_groups()?;
    drop_capabilities(share.is_some())?;
    rustix::thread::set_no_new_privs(true).map_err(step("forbid new privileges"))?;
    let content = share.map(|_| Ok((place(SHARE)?, place("/proc/self")?))).transpose();
    landlock::restrict(content.map_err(step("open the jail's directories"))?)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(step("forbid core dumps and tracing"))
}

/// Restricts the calling thread of a jailed process to what its kind does, for good. Only a
/// device's thread that asks for it keeps capabilities: the share's.
///
/// # Errors
/// [`JailError`]; the thread must not serve anybody then.
pub(crate) fn restrict_thread(kind: ThreadKind) -> Result<(), JailError> {
    if !matches!(kind, ThreadKind::Worker(worker) if worker.acts_for_users) {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets).map_err(step("drop capabilities"))?;
    }
    Ok(seccomp::install(kind)?)
}

/// A place to make a rule about.
fn place(path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Leaves the groups that the shim was started with. The attack: files of a group that its user
/// has nothing to do with.
fn drop_groups() -> Result<(), JailError> {
    rustix::thread::set_thread_groups(&[]).map_err(step("leave the shim's groups"))
}

/// Copies of the host's mounts that go into the jail.
struct Content {
    share: OwnedFd,
    process: OwnedFd,
}

impl Content {
    /// A copy of the mounts at and below `share`, which goes on receiving the host's, and one
    /// of this process's directory in `/proc`.
    fn new(share: BorrowedFd<'_>) -> Result<Self, JailError> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let whole = flags | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::AT_EMPTY_PATH;
        let share = open_tree(share, "", whole)
            .map_err(step("clone the share's mounts (are you root?)"))?;
        let process =
            open_tree(CWD, "/proc/self", flags).map_err(step("clone /proc/self (is it there?)"))?;
        Ok(Self { share, process })
    }

    /// Mounts the copies below the current directory.
    fn mount(&self) -> Result<(), JailError> {
        for directory in ["share", "proc", "proc/self"] {
            mkdirat(CWD, directory, Mode::from_raw_mode(0o755))
                .map_err(step("make directories of the jail"))?;
        }
        attach(&self.share, "share").map_err(step("mount the share"))?;
        attach(&self.process, "proc/self").map_err(step("mount /proc/self"))
    }

    /// Takes from the copies what this process has no use for. A guest's device nodes and
    /// set-user-id programs are for the guest.
    fn restrict() -> Result<(), JailError> {
        let told = statvfs("share").map_err(step("examine the share"))?;
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
        if told.f_flag.contains(StatVfsMountFlags::RDONLY) {
            flags |= MountFlags::RDONLY;
        }
        remount("share", flags).map_err(step("restrict the share"))?;
        remount("proc/self", NOTHING).map_err(step("restrict /proc/self"))
    }
}

/// A mount on which nothing can be done but look.
const NOTHING: MountFlags =
    MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV).union(MountFlags::NOEXEC);

fn attach(tree: &OwnedFd, target: &str) -> Result<(), Errno> {
    move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Changes the flags of one mount, not those of its file system.
fn remount(target: &str, flags: MountFlags) -> Result<(), Errno> {
    mount_remount(target, flags | MountFlags::BIND, "")
}

/// An empty file system.
fn empty_tree() -> Result<OwnedFd, JailError> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(step("make an empty root (are you root?)"))?;
    fsconfig_create(context.as_fd()).map_err(step("make an empty root"))?;
    let (flags, attributes) = (FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
    fsmount(context.as_fd(), flags, attributes).map_err(step("make an empty root"))
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

/// Makes `root` with its content the root directory and forgets the old one.
fn change_root(root: &OwnedFd, content: Option<Content>) -> Result<(), JailError> {
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    // Nothing that happens here may reach the host's mounts.
    mount_change("/", slave).map_err(step("detach from the host's mounts"))?;
    attach(root, "/").map_err(step("mount the new root"))?;
    rustix::process::fchdir(root).map_err(step("go to the new root"))?;
    if let Some(content) = &content {
        content.mount()?;
        mount_change(".", slave).map_err(step("make the share follow the host's mounts"))?;
        Content::restrict()?;
    }
    remount(".", NOTHING).map_err(step("make the new root read-only"))?;
    rustix::process::pivot_root(".", ".").map_err(step("change root"))?;
    // The old root is now mounted on top of the new one.
    unmount(".", UnmountFlags::DETACH).map_err(step("forget the old root"))?;
    rustix::process::chdir("/").map_err(step("go to the new root"))
}

/// The most that the host allows anybody (`fs.nr_open`). A host that does not say allows what
/// Linux does by default.
fn host_files() -> u64 {
    let told = std::fs::read_to_string("/proc/sys/fs/nr_open");
    told.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(MAX_FILES_WITH_SHARE)
}

/// How many descriptors a share may use for the guest.
pub(crate) fn files_of_the_guest() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile).current;
    limit.unwrap_or(MAX_FILES_WITH_SHARE).saturating_sub(OWN_FILES)
}

fn limit_resources(share: bool) -> Result<(), JailError> {
    let files = if share { MAX_FILES_WITH_SHARE.min(host_files()) } else { MAX_FILES };
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
    rustix::thread::set_capabilities_secure_bits(SECURE_BITS)
        .map_err(step("forbid ways to capabilities"))?;
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
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    /// What a taken-over server of the share could do in the jail, in a process of its own.
    #[allow(unsafe_code, reason = "only a process with one thread can enter the jail")]
    fn in_the_jail(share: &File, attempt: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child uses no lock that another thread may hold, but the allocator's, which
        // the C library takes care of.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let done = match confine(Some(share.as_fd())) {
                Ok(()) => i32::from(attempt()),
                Err(_) => 2,
            };
            // SAFETY: ends the child without running what belongs to the test's process.
            unsafe { libc::_exit(done) };
        }
        let child = rustix::process::Pid::from_raw(child);
        let ended = rustix::process::waitpid(child, rustix::process::WaitOptions::empty());
        let code = ended.unwrap().unwrap().1.exit_status();
        assert!(code < Some(2), "the jail could not be entered (are you root?): {code:?}");
        code == Some(1)
    }

    #[test]
    fn an_image_that_is_open_for_reading_can_not_be_opened_for_writing() {
        let dir = tempfile::tempdir().unwrap();
        let (share, image) = (dir.path().join("share"), dir.path().join("image"));
        std::fs::create_dir(&share).unwrap();
        std::fs::write(share.join("file"), "").unwrap();
        std::fs::write(&image, "image").unwrap();
        let (share, image) = (File::open(&share).unwrap(), File::open(&image).unwrap());
        let again = |file: &File, flags| {
            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::open(link, flags, Mode::empty())
        };
        assert!(!in_the_jail(&share, || again(&image, OFlags::RDWR).is_ok()));
        let works = || {
            let root = File::from(place(SHARE).unwrap());
            let file = rustix::fs::openat(&root, "file", OFlags::PATH, Mode::empty()).unwrap();
            again(&File::from(file), OFlags::RDWR).is_ok()
        };
        assert!(in_the_jail(&share, works), "what is in the share can be written");
    }

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
