//! The kernel's key service, keyctl(2).
#![allow(unsafe_code, reason = "keyctl is in no safe library")]

use std::ffi::CString;
use std::io;

/// Makes the keyring of this name the session's: the one of this user namespace that this process
/// may search, else a new one. Returns its serial number.
pub(crate) fn join_session_keyring(name: &str) -> io::Result<i32> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    let name = CString::new(name)?;
    // SAFETY: the name is a live C string, the only argument of this operation.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    i32::try_from(super::check(result)?).map_err(io::Error::other)
}

/// Sets the rights on a key that this process possesses (`KEY_POS_…`, `KEY_USR_…`, `KEY_OTH_…` of
/// linux/key.h).
pub(crate) fn set_permissions(key: i32, permissions: u32) -> io::Result<()> {
    const KEYCTL_SETPERM: libc::c_int = 5;
    // SAFETY: this operation takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key, permissions) };
    super::check(result).map(drop)
}
