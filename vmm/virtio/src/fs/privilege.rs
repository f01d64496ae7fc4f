//! Rights that the device's thread gives up for a moment, and what has to be put right after.

use std::io;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use virtiofsd::filesystem::{Context, SetattrValid};
use virtiofsd::soft_idmap::Id;

/// Mode bit of a directory: what is created in it gets its group.
pub(super) const SET_GROUP: u32 = 0o2000;

/// Mode bits of a file that are lost when its owner changes.
pub(super) const SET_IDS: u32 = 0o6000;

/// Runs `change` without the right to keep set-user-id and set-group-id bits, if the guest
/// says that who changes a file has not got it.
///
/// # Errors
/// What `change` fails with, or EPERM if the right can't be given up or taken back.
pub(super) fn killing_set_ids<T>(
    kill: bool,
    change: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    if !kill {
        return change();
    }
    let mine = capabilities(None)?;
    let mut less = mine;
    less.effective.remove(CapabilitySet::FSETID);
    set_capabilities(None, less)?;
    let result = change();
    set_capabilities(None, mine)?;
    conceal()?;
    result
}

/// Whether who asks for this change has not got the right to keep set-id bits. Of an owner's change
/// the guest's kernel says so whoever asks, and does not tell who that is. The host's kernel takes
/// from root, too, what must go with the owner.
pub(super) fn loses_set_ids(valid: SetattrValid) -> bool {
    valid.contains(SetattrValid::KILL_SUIDGID | SetattrValid::SIZE)
}

/// Runs `create`, in which the library takes on the user and the group of `context`.
///
/// # Errors
/// What `create` fails with.
pub(super) fn as_user<T>(
    context: &Context,
    create: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let result = create();
    if !(context.uid.is_root() && context.gid.is_root()) {
        conceal()?;
    }
    result
}

/// Forbids core dumps and tracing again: whenever rights change, Linux allows what the host
/// allows for set-user-id programs (`fs.suid_dumpable`).
fn conceal() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
