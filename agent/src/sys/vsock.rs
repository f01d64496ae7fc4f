//! vsock(7) sockets as plain descriptors.
#![allow(unsafe_code, reason = "AF_VSOCK addresses are in no safe library that we use")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// CID of the host, the only peer that the agent serves.
pub(crate) const HOST_CID: u32 = libc::VMADDR_CID_HOST;

/// Connections that may wait for accept(2).
const BACKLOG: libc::c_int = 64;

const ADDRESS_LENGTH: libc::socklen_t = {
    let size = size_of::<libc::sockaddr_vm>();
    assert!(size <= 128, "a socket address is small");
    #[allow(clippy::cast_possible_truncation, reason = "asserted above")]
    let length = size as libc::socklen_t;
    length
};

const FAMILY: libc::sa_family_t = {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "AF_VSOCK is 40")]
    let family = libc::AF_VSOCK as libc::sa_family_t;
    family
};

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    libc::sockaddr_vm {
        svm_family: FAMILY,
        svm_reserved1: 0,
        svm_port: port,
        svm_cid: cid,
        svm_zero: [0; 4],
    }
}

fn socket(flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointers.
    let fd =
        unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket(2) returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Listens on `port` of every CID of this guest. The descriptor does not block.
pub(crate) fn listen(port: u32) -> io::Result<OwnedFd> {
    let fd = socket(libc::SOCK_NONBLOCK)?;
    let address = address(libc::VMADDR_CID_ANY, port);
    // SAFETY: the address is a live sockaddr_vm and the length is its size.
    let bound =
        unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), ADDRESS_LENGTH) };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: listen(2) takes no pointers.
    if unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// Accepts a connection and tells the peer's CID. `WouldBlock` when there is none.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, u32)> {
    let mut peer = address(0, 0);
    let mut length = ADDRESS_LENGTH;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let out = std::ptr::from_mut(&mut peer).cast();
    // SAFETY: peer is a live sockaddr_vm and length holds its size.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), out, &raw mut length, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: accept4(2) returned a new descriptor that nobody else owns.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, peer.svm_cid))
}

/// Begins to connect to `port` of the host without waiting for the answer.
pub(crate) fn begin_connect_to_host(port: u32) -> io::Result<OwnedFd> {
    let fd = socket(libc::SOCK_NONBLOCK)?;
    let address = address(HOST_CID, port);
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: the address is a live sockaddr_vm and the length is its size.
    let connected =
        unsafe { libc::connect(raw, std::ptr::from_ref(&address).cast(), ADDRESS_LENGTH) };
    if connected < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINPROGRESS) {
            return Err(error);
        }
    }
    Ok(fd)
}
