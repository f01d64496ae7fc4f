//! The user namespace and its id maps (`linux.uidMappings`, `linux.gidMappings`).

use oci_spec::runtime::LinuxIdMapping;
use syscalls::user_namespace::IdRange;

use super::failure::Context;
use super::outside::Outside;
use crate::control::Failure;
use crate::oci::Linux;
use crate::sys::process;

/// Moves this process into a new user namespace, of which it becomes root.
pub(super) fn enter_new(linux: &Linux) -> Result<(), Failure> {
    if linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty() {
        return Err(Failure::configuration("a user namespace needs uidMappings and gidMappings"));
    }
    let mapper = Outside::prepare(|pid| write_maps(pid, &linux.uid_mappings, &linux.gid_mappings))?;
    process::unshare(libc::CLONE_NEWUSER).context("make the user namespace")?;
    mapper.act().map_err(|error| {
        let reason = format_args!("the kernel refuses uidMappings or gidMappings: {error}");
        Failure::configuration(reason)
    })?;
    become_root()
}

/// Takes the identity of the user namespace's root, which owns what is made from now on.
pub(super) fn become_root() -> Result<(), Failure> {
    process::set_gid(0).context("become group 0 of the user namespace")?;
    process::set_uid(0).context("become user 0 of the user namespace")
}

fn write_maps(pid: u32, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> std::io::Result<()> {
    std::fs::write(format!("/proc/{pid}/uid_map"), map_file(uids))?;
    std::fs::write(format!("/proc/{pid}/gid_map"), map_file(gids))
}

/// The form of the kernel's files.
pub(super) fn map_file(mappings: &[LinuxIdMapping]) -> String {
    syscalls::user_namespace::map_file(mappings.iter().map(|range| IdRange {
        inside: range.container_id(),
        outside: range.host_id(),
        size: range.size(),
    }))
}
