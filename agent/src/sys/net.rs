//! Network interfaces.
#![allow(unsafe_code, reason = "interface flags are set by ioctl(2)")]

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

/// Sets an interface up, as `ip link set NAME up` does. Names have at most 15 bytes.
pub(crate) fn set_interface_up(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    if name.len() >= ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    #[allow(clippy::cast_possible_truncation, reason = "IFF_UP and IFF_RUNNING are below 256")]
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let request =
        libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
    // SAFETY: the request is a live ifreq, which SIOCSIFFLAGS only reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    super::check(result.into()).map(drop)
}
