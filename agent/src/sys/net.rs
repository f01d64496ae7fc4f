//! Network interfaces.
#![allow(unsafe_code, reason = "interface flags are set by ioctl(2)")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Brings up the loopback interface of this process's network namespace.
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    set_interface_up(socket.as_fd(), "lo")
}

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

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ifreq` with a pointer.
#[repr(C)]
struct EthtoolRequest<'a> {
    name: [u8; libc::IFNAMSIZ],
    data: &'a mut Channels,
    padding: [u8; 16],
}

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_SCHANNELS: u32 = 0x3d;

fn ethtool(socket: BorrowedFd<'_>, name: &str, channels: &mut Channels) -> io::Result<()> {
    let mut request =
        EthtoolRequest { name: [0; libc::IFNAMSIZ], data: channels, padding: [0; 16] };
    // The last byte stays zero.
    let room = request.name.iter_mut().take(libc::IFNAMSIZ - 1);
    room.zip(name.bytes()).for_each(|(to, from)| *to = from);
    // SAFETY: the request is live and has the size of an ifreq; it points to live channels, which
    // is what the two commands take.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    super::check(result.into()).map(drop)
}

/// Lets an interface use so many of its queue pairs, or all if it has less, as
/// `ethtool --set-channels NAME combined N` does.
pub(crate) fn set_queue_pairs(socket: BorrowedFd<'_>, name: &str, wanted: u32) -> io::Result<()> {
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    ethtool(socket, name, &mut channels)?;
    let wanted = wanted.min(channels.max_combined);
    if channels.combined == wanted {
        return Ok(());
    }
    channels.command = ETHTOOL_SCHANNELS;
    channels.combined = wanted;
    ethtool(socket, name, &mut channels)
}
