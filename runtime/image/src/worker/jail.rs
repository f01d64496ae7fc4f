//! What a worker gives up before it reads a stranger's first byte.
//!
//! ```text
//! before                             after
//! the host's mounts                  an empty read-only tmpfs
//! root                               a user of its own, or nobody, without groups
//! root's capabilities                none, and no way to any
//! any file, any process              no file by name, no signal to others (Landlock), no core
//! any system call                    those of seccomp/worker.json
//! the host's network                 the same: registries are asked by it
//! IPC, UTS                           empty ones of its own
//! ```
//! Only root can do the first three. Another user's daemon, as in tests, has a worker that has no more
//! rights than it, and the rest of this.

use std::os::fd::AsFd;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, Scope,
};
use nix::sched::CloneFlags;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Signal, Uid};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use super::filter;

/// The user of workers, where a node has it.
const USER: &str = "cuddy-images";

/// Who they are otherwise: Linux' `overflowuid`, by custom called nobody.
const NOBODY: u32 = 65534;

/// The newest version of Landlock whose rights are known here.
const KNOWN: ABI = ABI::V7;

/// Most descriptors: a layer's file, sockets, and what an archive's images have.
const MAX_FILES: u64 = 4096;

/// None of these leads to capabilities, and all of it is for good.
const SECURE_BITS: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

/// A step that failed: nothing of a stranger may be read then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JailError {
    /// The kernel refused.
    #[error("giving up rights: {0}")]
    Step(&'static str, #[source] Errno),
    /// Landlock refused.
    #[error("giving up files and signals by Landlock")]
    Landlock(#[from] RulesetError),
    /// There are no filters.
    #[error("giving up system calls")]
    Filter(#[from] filter::FilterError),
}

fn step(action: &'static str) -> impl Fn(Errno) -> JailError {
    move |source| JailError::Step(action, source)
}

/// Has the kernel end this process when the daemon's thread ends that started it.
pub(super) fn end_with_the_daemon() -> Result<(), JailError> {
    // One that has ended just before has closed the socket by which jobs come.
    let tied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    tied.map_err(step("tie the end to the daemon's"))
}

/// Gives all of it up. The process has no other thread yet.
///
/// # Errors
/// [`JailError`]; the process must end then.
pub(super) fn enter() -> Result<(), JailError> {
    limit()?;
    if rustix::process::geteuid().is_root() {
        let user = user();
        empty_root()?;
        let securebits = rustix::thread::set_capabilities_secure_bits(SECURE_BITS);
        securebits.map_err(step("forbid ways to capabilities"))?;
        shrink_bounds()?;
        become_user(user)?;
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(step("drop capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(step("forbid new privileges"))?;
    // The kernel forgets it when the user changes.
    end_with_the_daemon()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(step("forbid core dumps and tracing"))?;
    let rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let rules = rules.handle_access(AccessFs::from_all(KNOWN))?.scope(Scope::from_all(KNOWN))?;
    rules.create()?.restrict_self()?;
    Ok(filter::install()?)
}

fn limit() -> Result<(), JailError> {
    let limit = |value| Rlimit { current: Some(value), maximum: Some(value) };
    rustix::process::setrlimit(Resource::Core, limit(0)).map_err(step("forbid core files"))?;
    let most = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(MAX_FILES);
    rustix::process::setrlimit(Resource::Nofile, limit(most.min(MAX_FILES)))
        .map_err(step("limit open files"))?;
    // The daemon is the last that the kernel kills for memory, and a worker is none of that. Who may
    // not change it has not got the daemon's value.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    Ok(())
}

/// The user to become: its numbers in the node's list.
fn user() -> (Uid, Gid) {
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let (user, group) = numbers(&list).unwrap_or((NOBODY, NOBODY));
    (Uid::from_raw(user), Gid::from_raw(group))
}

/// User and group of workers in a text of the form of passwd(5). Root is none.
fn numbers(list: &str) -> Option<(u32, u32)> {
    let mut fields = list.lines().map(|line| line.split(':'));
    let mut own = fields.find(|fields| fields.clone().next() == Some(USER))?.skip(2);
    let (user, group) = (own.next()?.parse().ok()?, own.next()?.parse().ok()?);
    (user != 0 && group != 0).then_some((user, group))
}

/// Makes an empty file system the only one.
fn empty_root() -> Result<(), JailError> {
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    let left = nix::sched::unshare(flags).map_err(|error| Errno::from_raw_os_error(error as i32));
    left.map_err(step("leave the host's namespaces"))?;
    let failed = step("make an empty root");
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    // Nothing that happens here may reach the host's mounts.
    mount_change("/", slave).map_err(&failed)?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(&failed)?;
    fsconfig_create(context.as_fd()).map_err(&failed)?;
    let nothing = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, nothing).map_err(&failed)?;
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(&failed)?;
    rustix::process::fchdir(&root).map_err(&failed)?;
    rustix::process::pivot_root(".", ".").map_err(&failed)?;
    // The old root is now on top of the new one.
    unmount(".", UnmountFlags::DETACH).map_err(&failed)?;
    rustix::process::chdir("/").map_err(&failed)
}

/// Forgets all capabilities that a program could have.
fn shrink_bounds() -> Result<(), JailError> {
    let failed = step("shrink the capability bounding set");
    rustix::thread::clear_ambient_capability_set().map_err(&failed)?;
    let all = (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number));
    for capability in all {
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) => {
                rustix::thread::remove_capability_from_bounding_set(capability).map_err(&failed)?
            }
            Ok(false) => {}
            // The first that the kernel does not know.
            Err(_) => break,
        }
    }
    Ok(())
}

fn become_user((user, group): (Uid, Gid)) -> Result<(), JailError> {
    let failed = step("become another user");
    rustix::thread::set_thread_groups(&[]).map_err(&failed)?;
    rustix::thread::set_thread_res_gid(group, group, group).map_err(&failed)?;
    rustix::thread::set_thread_res_uid(user, user, user).map_err(&failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a worker that is taken over may try.
    #[test]
    #[ignore = "the process of the test below, which keeps nothing afterwards"]
    fn attempts() {
        use std::fs::File;
        use std::net::{TcpListener, TcpStream};
        use std::os::unix::net::UnixDatagram;
        use std::process::Command;

        let host = File::open("/etc").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let parent = rustix::process::getppid().unwrap();
        enter().unwrap();
        for path in ["/", "/etc/passwd", "/proc/self/status", "/dev/null", "../etc/passwd"] {
            assert!(File::open(path).is_err(), "{path}");
        }
        assert!(File::create("/new").is_err());
        let flags = rustix::fs::OFlags::RDONLY;
        let below = rustix::fs::openat(&host, "passwd", flags, rustix::fs::Mode::empty());
        assert!(below.is_err(), "a directory that was left open leads nowhere");
        assert!(Command::new("/bin/true").status().is_err());
        assert!(UnixDatagram::unbound().is_err());
        assert!(TcpListener::bind("127.0.0.1:0").is_err(), "it serves nobody");
        assert!(rustix::process::test_kill_process(parent).is_err());
        let root = Uid::from_raw(0);
        assert!(rustix::thread::set_thread_res_uid(root, root, root).is_err());
        assert!(nix::sched::unshare(CloneFlags::CLONE_NEWUSER).is_err());
        // What it is for goes on.
        assert_eq!(std::thread::spawn(|| 5).join().unwrap(), 5);
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    }

    #[test]
    fn nothing_but_registries_is_within_reach() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker::jail::tests::attempts", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}{failed}");
    }

    #[test]
    fn user_of_workers_is_found_in_the_nodes_list() {
        let list = "root:x:0:0::/root:/bin/sh\ncuddy-images:x:977:978::/:/sbin/nologin\n";
        assert_eq!(numbers(list), Some((977, 978)));
        for none in ["", "cuddy-images2:x:977:978::/:", "cuddy-images:x:9a:1::", "cuddy-images:x"] {
            assert_eq!(numbers(none), None, "{none}");
        }
        assert_eq!(numbers("cuddy-images:x:0:978::/:"), None, "root is no user of workers");
    }
}
