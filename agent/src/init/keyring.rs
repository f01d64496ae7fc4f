//! The session keyring of a container, keyrings(7): its processes share it, and none of them sees
//! the agent's.

use super::failure::Context;
use crate::control::{Failure, Order};
use crate::sys::keys::{join_session_keyring, set_permissions};

/// All rights of who possesses the keyring, and `view`, `read` and `link` for its user: what the
/// kernel gives a new one (security/keys/process_keys.c).
const USUAL: u32 = 0x3f13_0000;

/// The right of the keyring's user to find it by its name.
const USER_SEARCH: u32 = 0x0008_0000;

/// Makes the container's keyring, or joins it for an exec, by the name that runc gives it.
pub(super) fn join(order: &Order) -> Result<(), Failure> {
    let name = format!("_ses.{}", order.container_id);
    let keyring = match join_session_keyring(&name) {
        // A kernel without keys has none to leak.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return Ok(()),
        other => other.context("join the session keyring")?,
    };
    if order.join {
        return Ok(());
    }
    // An exec has to find it, and is root of the same user namespace at this point.
    set_permissions(keyring, USUAL | USER_SEARCH).context("let execs find the session keyring")
}
