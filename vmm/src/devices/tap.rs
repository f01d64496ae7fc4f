//! Requests to a tap's descriptor (`linux/if_tun.h`), and to vhost's about it.
#![allow(unsafe_code, reason = "there are no safe calls for a tap's ioctls")]

#[cfg(test)]
mod tests;

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
