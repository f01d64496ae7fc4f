//! Taps: interfaces whose other end is a descriptor (the kernel's tuntap driver).
#![allow(unsafe_code, reason = "taps are made by ioctls that no library we use knows")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use netlink::{Link, Socket};

const DEVICE: &str = "/dev/net/tun";

/// With the number of the interface beside it this has at most 15 bytes, the longest name.
const PREFIX: &str = "cuddy";

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;

const IFF_TAP: u16 = 0x2;
const IFF_MULTI_QUEUE: u16 = 0x100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// `struct virtio_net_hdr_v1` (virtio 1.3 §5.1.6).
const HEADER: libc::c_int = 12;

const RTM_DELLINK: u16 = 17;

/// `struct ifreq` as TUNSETIFF reads it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    padding: [u8; 22],
}

/// A tap, which exists as long as one of its queues is open.
#[derive(Debug)]
pub(crate) struct Tap {
    name: String,
    queues: Vec<OwnedFd>,
}

fn name(beside: u32) -> String {
    format!("{PREFIX}{beside}")
}

/// Whether this crate has made an interface.
pub(crate) fn is_ours(link: &Link) -> bool {
    let number = link.name.strip_prefix(PREFIX).map(str::parse::<u32>);
    link.kind.as_deref() == Some("tun") && matches!(number, Some(Ok(_)))
}

/// Ends a tap that somebody still holds.
pub(crate) fn delete(socket: &mut Socket, index: u32) {
    let body = [[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat();
    // It may have ended by itself.
    let _gone = socket.change(RTM_DELLINK, 0, &body);
}

impl Tap {
    /// Makes the tap for the interface numbered `beside`, in this thread's network namespace.
    pub(crate) fn make(beside: u32, queues: usize) -> io::Result<Self> {
        let name = name(beside);
        let queues = (0..queues).map(|_| queue(&name, queues > 1)).collect::<io::Result<_>>()?;
        Ok(Self { name, queues })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its descriptors, one for each queue.
    pub(crate) fn into_queues(self) -> Vec<OwnedFd> {
        self.queues
    }
}

fn queue(name: &str, several: bool) -> io::Result<OwnedFd> {
    let mut options = File::options();
    let file = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
    let multi = if several { IFF_MULTI_QUEUE } else { 0 };
    let flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | multi;
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags, padding: [0; 22] };
    // The last byte stays zero.
    let room = request.name.iter_mut().take(libc::IFNAMSIZ - 1);
    room.zip(name.bytes()).for_each(|(to, from)| *to = from);
    // SAFETY: the request is live and has the size of an ifreq.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    let header = HEADER;
    // SAFETY: the ioctl reads one int, which is live.
    let set = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &raw const header) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(file.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_number_fits_into_a_name() {
        assert_eq!(name(u32::MAX / 2).len(), libc::IFNAMSIZ - 1);
    }
}
