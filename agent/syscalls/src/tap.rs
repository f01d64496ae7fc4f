//! Taps: interfaces whose other end is a descriptor (the kernel's tuntap driver, `linux/if_tun.h`).
#![allow(unsafe_code, reason = "taps are made by ioctls that no library we use knows")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

const DEVICE: &str = "/dev/net/tun";

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;

const IFF_TAP: u16 = 0x2;
const IFF_MULTI_QUEUE: u16 = 0x100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// Size of `struct virtio_net_hdr_v1` (virtio 1.3 §5.1.6).
const HEADER: libc::c_int = 12;

/// `struct ifreq` as TUNSETIFF reads it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    padding: [u8; 22],
}

/// Opens a queue of the tap `name` (at most 15 bytes) in this thread's network namespace, which is
/// made with its first queue and goes with its last; `several` if it shall have more than one. The
/// queue does not block, and whole frames pass it with a virtio header before each.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a longer name; else what the kernel answered.
pub fn queue(name: &str, several: bool) -> io::Result<File> {
    let multi = if several { IFF_MULTI_QUEUE } else { 0 };
    let flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | multi;
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags, padding: [0; 22] };
    // The last byte stays zero.
    if name.len() >= request.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    let mut options = File::options();
    let file = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
    // SAFETY: the request is live and has the size of an ifreq.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    let header = HEADER;
    // SAFETY: the ioctl reads one int, which is live.
    let set = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &raw const header) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_the_kernels_layout() {
        assert_eq!(size_of::<Request>(), size_of::<libc::ifreq>());
        assert_eq!(i32::from(IFF_TAP | IFF_NO_PI), libc::IFF_TAP | libc::IFF_NO_PI);
        assert_eq!(i32::from(IFF_VNET_HDR), libc::IFF_VNET_HDR);
        assert_eq!(i32::from(IFF_MULTI_QUEUE), libc::IFF_MULTI_QUEUE);
    }

    #[test]
    fn names_that_would_be_cut_are_refused() {
        let refused = queue("sixteen-letters-", false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
