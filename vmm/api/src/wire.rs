//! Framing: one `SOCK_SEQPACKET` datagram is one JSON message, with its descriptors as
//! `SCM_RIGHTS`. Both ends use the same blocking or non-blocking [`Channel`].

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest message in bytes; a boot request with 64 devices stays below a quarter of it.
pub const MAX_MESSAGE: usize = 64 << 10;

/// Most descriptors with one message: a device in every window, kernel, memory and serial.
pub const MAX_FDS: usize = 80;

/// A message that could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed, or would block on a non-blocking channel.
    #[error("control socket")]
    Socket(#[from] rustix::io::Errno),
    /// The peer closed its end.
    #[error("control socket closed by the other side")]
    Closed,
    /// The message or its descriptors exceed [`MAX_MESSAGE`] or [`MAX_FDS`].
    #[error("control message too large")]
    TooLarge,
    /// The message is not valid JSON of the expected type.
    #[error("control message not understood")]
    Malformed(#[from] serde_json::Error),
}

/// One end of a control connection.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Wraps a connected `SOCK_SEQPACKET` socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// A connected pair, both close-on-exec and blocking.
    ///
    /// # Errors
    /// [`WireError::Socket`] if the kernel refuses.
    pub fn pair() -> Result<(Self, Self), WireError> {
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(ours), Self(theirs)))
    }

    /// Sends one message with its descriptors.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] before anything is sent; [`WireError::Socket`] otherwise.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
            return Err(WireError::TooLarge);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(WireError::TooLarge);
        }
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives one message with its descriptors, all close-on-exec.
    ///
    /// # Errors
    /// [`WireError::Closed`] at the end; [`WireError::TooLarge`] if the peer sent more than
    /// this side takes; [`WireError::Malformed`] with the descriptors closed.
    pub fn recv<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), WireError> {
        let mut bytes = vec![0; MAX_MESSAGE + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        if received.bytes == 0 {
            return Err(WireError::Closed);
        }
        let cut = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
        if received.bytes > MAX_MESSAGE || received.flags.intersects(cut) {
            return Err(WireError::TooLarge);
        }
        Ok((serde_json::from_slice(&bytes[..received.bytes])?, fds))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;
    use crate::message::{FromVmm, Request};
    use crate::{DeviceConfig, Reply, Window};

    #[test]
    fn message_and_descriptor_arrive_together() {
        let (shim, vmm) = Channel::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"disk").unwrap();
        file.rewind().unwrap();
        shim.send(&Request::Attach(DeviceConfig::Rng), &[file.as_fd()]).unwrap();
        let (request, fds) = vmm.recv::<Request>().unwrap();
        assert_eq!(request, Request::Attach(DeviceConfig::Rng));
        let mut text = String::new();
        let mut received: std::fs::File = fds.into_iter().next().unwrap().into();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "disk");
    }

    #[test]
    fn window_past_the_table_is_refused_on_receipt() {
        let (shim, vmm) = Channel::pair().unwrap();
        shim.send(&serde_json::json!({"detach": 64}), &[]).unwrap();
        let error = vmm.recv::<Request>().unwrap_err();
        assert!(matches!(error, WireError::Malformed(_)), "{error:?}");
    }

    #[test]
    fn closed_peer_is_told_apart_from_an_empty_message() {
        let (shim, vmm) = Channel::pair().unwrap();
        let reply = FromVmm::Reply(Reply::Attached(Window::try_from(5).unwrap()));
        vmm.send(&reply, &[]).unwrap();
        drop(vmm);
        assert_eq!(shim.recv::<FromVmm>().unwrap().0, reply);
        assert!(matches!(shim.recv::<FromVmm>(), Err(WireError::Closed)));
    }
}
