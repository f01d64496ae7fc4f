//! `process.user`: ids, groups and umask.

use oci_spec::runtime::User;
use rustix::fs::Mode;

use super::failure::Context;
use crate::control::Failure;
use crate::sys::process;

/// umask where the configuration states none, as runc.
const DEFAULT_UMASK: u32 = 0o022;

/// Becomes the user, keeping permitted capabilities for the step that sets them.
pub(super) fn become_user(user: &User) -> Result<(), Failure> {
    let umask = user.umask().unwrap_or(DEFAULT_UMASK);
    if umask > 0o777 {
        return Err(Failure::configuration(format_args!("umask {umask:o}: not 0 to 777")));
    }
    rustix::process::umask(Mode::from_raw_mode(umask));
    set_groups(user)?;
    let (uid, gid) = (user.uid(), user.gid());
    process::set_gid(gid).with_context(|| format!("become group {gid}"))?;
    rustix::thread::set_keep_capabilities(true).context("keep capabilities")?;
    process::set_uid(uid).with_context(|| format!("become user {uid}"))?;
    rustix::thread::set_keep_capabilities(false).context("stop keeping capabilities")
}

fn set_groups(user: &User) -> Result<(), Failure> {
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    if groups.is_empty() {
        // In a user namespace without setgroups(2) there is nothing to clear.
        let denied = std::fs::read("/proc/self/setgroups").is_ok_and(|state| state == b"deny\n");
        if denied {
            return Ok(());
        }
    }
    process::set_groups(groups).context("set additionalGids")
}
