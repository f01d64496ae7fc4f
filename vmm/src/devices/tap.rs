//! Requests to a tap's descriptor (`linux/if_tun.h`), and to vhost's about it.
#![allow(unsafe_code, reason = "there are no safe calls for a tap's ioctls")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::{c_int, c_ulong, ifreq};
use virtio::net::TapCalls;
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref, ioctl_with_val};

/// Sets what the reader takes, by value.
const TUNSETOFFLOAD: c_ulong = 0x4004_54d0;
/// Puts a queue to use or out of it.
const TUNSETQUEUE: c_ulong = 0x4004_54d9;
/// Tells the flags with which the tap was made.
const TUNGETIFF: c_ulong = 0x8004_54d2;
/// Tells the size of the header before packets.
const TUNGETVNETHDRSZ: c_ulong = 0x8004_54d7;

/// Connects a queue of vhost with a tap (`linux/vhost.h`).
const VHOST_NET_SET_BACKEND: c_ulong = 0x4008_af30;

/// Flags that a tap needs: whole frames, with a virtio header and nothing else before them.
const NEEDED: c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Size of the virtio header of devices after version 1.0 (virtio 1.3 §5.1.6).
const HEADER: c_int = 12;

/// A descriptor that no network device can be made of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TapError {
    /// It does not belong to a tap.
    #[error("the descriptor is not that of a tap with an interface")]
    NotATap(#[source] io::Error),
    /// The tap was made with other flags.
    #[error("tap has flags {0:#x}: it needs IFF_TAP, IFF_NO_PI and IFF_VNET_HDR")]
    Flags(c_int),
    /// The header has another size.
    #[error("tap has headers of {0} bytes: set 12 with TUNSETVNETHDRSZ")]
    Header(c_int),
}

/// The requests that network devices make.
pub(crate) const CALLS: TapCalls = TapCalls { set_offloads, set_queue, set_backend };

/// Checks that `tap` can serve a network device.
///
/// # Errors
/// [`TapError`], with what its maker should do.
pub(crate) fn check(tap: &File) -> Result<(), TapError> {
    let mut request = empty();
    // SAFETY: the kernel writes an ifreq, and there is one.
    let told = unsafe { ioctl_with_mut_ref(tap, TUNGETIFF, &mut request) };
    result(told).map_err(TapError::NotATap)?;
    // SAFETY: this request's answer is in the flags, and any bits are a valid short.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let flags = c_int::from(flags);
    if flags & NEEDED != NEEDED {
        return Err(TapError::Flags(flags));
    }
    let mut header = 0;
    // SAFETY: the kernel writes an int, and there is one.
    let told = unsafe { ioctl_with_mut_ref(tap, TUNGETVNETHDRSZ, &mut header) };
    result(told).map_err(TapError::NotATap)?;
    if header == HEADER { Ok(()) } else { Err(TapError::Header(header)) }
}

fn set_offloads(tap: &File, offloads: u32) -> io::Result<()> {
    // SAFETY: the kernel takes the number and touches no memory.
    result(unsafe { ioctl_with_val(tap, TUNSETOFFLOAD, offloads.into()) })
}

fn set_queue(tap: &File, in_use: bool) -> io::Result<()> {
    let flag = if in_use { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE };
    let mut request = empty();
    request.ifr_ifru.ifru_flags = flag.try_into().map_err(io::Error::other)?;
    // SAFETY: the kernel reads an ifreq, and there is one.
    result(unsafe { ioctl_with_ref(tap, TUNSETQUEUE, &request) })
}

/// What `VHOST_NET_SET_BACKEND` takes (`struct vhost_vring_file`).
#[repr(C)]
struct VringFile {
    index: u32,
    fd: c_int,
}

fn set_backend(vhost: &File, index: u32, tap: Option<&File>) -> io::Result<()> {
    let request = VringFile { index, fd: tap.map_or(-1, AsRawFd::as_raw_fd) };
    // SAFETY: the kernel reads a vhost_vring_file, and there is one.
    result(unsafe { ioctl_with_ref(vhost, VHOST_NET_SET_BACKEND, &request) })
}

fn empty() -> ifreq {
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: 0 };
    ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru }
}

fn result(returned: c_int) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use rustix::thread::UnshareFlags;

    use super::*;

    const TUNSETIFF: c_ulong = 0x4004_54ca;
    const TUNSETVNETHDRSZ: c_ulong = 0x4004_54d8;

    /// One more queue of the tap `cuddy0` in the thread's network namespace.
    fn queue(flags: c_int, header: c_int) -> File {
        let tap = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        let tap = tap.expect("/dev/net/tun is missing: load the tun module");
        let mut request = empty();
        for (to, from) in request.ifr_name.iter_mut().zip(b"cuddy0") {
            *to = i8::try_from(*from).unwrap();
        }
        request.ifr_ifru.ifru_flags = flags.try_into().unwrap();
        // SAFETY: the kernel reads and writes an ifreq, and there is one.
        result(unsafe { ioctl_with_mut_ref(&tap, TUNSETIFF, &mut request) }).unwrap();
        // SAFETY: the kernel reads an int, and there is one.
        result(unsafe { ioctl_with_ref(&tap, TUNSETVNETHDRSZ, &header) }).unwrap();
        tap
    }

    /// Runs a test in a network namespace of its own, which ends with the thread.
    fn apart(test: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            // SAFETY: the flag that would make it unsafe, FILES, is not given.
            let left = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
            left.expect("leave the network namespace (are you root?)");
            test();
        });
        thread.join().unwrap();
    }

    #[test]
    fn only_taps_with_the_right_header_pass() {
        apart(|| {
            check(&queue(NEEDED, 12)).unwrap();
            assert!(matches!(check(&queue(NEEDED, 10)), Err(TapError::Header(10))));
            let flags = libc::IFF_TAP | libc::IFF_NO_PI;
            assert!(matches!(check(&queue(flags, 12)), Err(TapError::Flags(_))));
            let file = tempfile::tempfile().unwrap();
            assert!(matches!(check(&file), Err(TapError::NotATap(_))));
        });
    }

    #[test]
    fn offloads_and_queues_change() {
        apart(|| {
            let flags = NEEDED | libc::IFF_MULTI_QUEUE;
            let [first, second] = [queue(flags, 12), queue(flags, 12)];
            set_offloads(&first, 0x07).unwrap();
            set_offloads(&first, 0).unwrap();
            assert!(set_offloads(&first, 1 << 31).is_err());
            set_queue(&second, false).unwrap();
            assert!(set_queue(&second, false).is_err());
            set_queue(&second, true).unwrap();
            set_offloads(&second, 0).unwrap();
        });
    }
}
