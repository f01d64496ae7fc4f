//! The user namespace and its id maps (`linux.uidMappings`, `linux.gidMappings`).
//!
//! Maps of several ranges can be written only from outside, so a helper process is forked that
//! stays outside until it has written them.

use syscalls::user_namespace::IdRange;

use super::failure::Context;
use crate::control::Failure;
use crate::oci::{IdMapping, Linux};
use crate::sys::process::{self, Fork};

/// Moves this process into a new user namespace, of which it becomes root.
pub(super) fn enter_new(linux: &Linux) -> Result<(), Failure> {
    if linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty() {
        return Err(Failure::configuration("a user namespace needs uidMappings and gidMappings"));
    }
    let parent = std::process::id();
    let (wait, go) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("make a pipe")?;
    let helper = match process::fork().context("fork the id mapper")? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop(go);
            let released = rustix::io::read(&wait, &mut [0; 1]).is_ok_and(|count| count == 1);
            let written =
                released && write_maps(parent, &linux.uid_mappings, &linux.gid_mappings).is_ok();
            std::process::exit(i32::from(!written));
        }
    };
    drop(wait);
    process::unshare(libc::CLONE_NEWUSER).context("make the user namespace")?;
    rustix::io::write(&go, &[1]).context("release the id mapper")?;
    wait_for(helper)?;
    become_root()
}

/// Takes the identity of the user namespace's root, which owns what is made from now on.
pub(super) fn become_root() -> Result<(), Failure> {
    process::set_gid(0).context("become group 0 of the user namespace")?;
    process::set_uid(0).context("become user 0 of the user namespace")
}

fn wait_for(helper: i32) -> Result<(), Failure> {
    let status = rustix::process::waitpid(
        rustix::process::Pid::from_raw(helper),
        rustix::process::WaitOptions::empty(),
    )
    .context("wait for the id mapper")?;
    match status.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        _ => Err(Failure::configuration("the kernel refuses uidMappings or gidMappings")),
    }
}

fn write_maps(pid: u32, uids: &[IdMapping], gids: &[IdMapping]) -> std::io::Result<()> {
    std::fs::write(format!("/proc/{pid}/uid_map"), map_file(uids))?;
    std::fs::write(format!("/proc/{pid}/gid_map"), map_file(gids))
}

/// The form of the kernel's files.
pub(super) fn map_file(mappings: &[IdMapping]) -> String {
    syscalls::user_namespace::map_file(mappings.iter().map(|range| IdRange {
        inside: range.container_id,
        outside: range.host_id,
        size: range.size,
    }))
}
