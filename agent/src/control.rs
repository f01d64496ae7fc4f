//! The channel between the agent and a `container-init` that it started. It is a Unix stream socket
//! that carries frames with descriptors. A frame is its length in 4 bytes, little endian, then
//! JSON.
//!
//! ```text
//! agent ── Order (+ stdio, + pidfd of init for an exec) ─► container-init
//!       ◄─ Forked{pid} ────────────────────────────────────  by the first process
//!       ── Proceed ───────────────────────────────────────►  pid is registered, in its cgroup
//!       ◄─ Terminal (+ pty) ───────────────────────────────  only with a terminal
//!       ◄─ Created{user} ──────────────────────────────────  the container's process
//!       ── Start ─────────────────────────────────────────►
//!       ◄─ end of file ────────────────────────────────────  the workload's program runs
//! ```
//! `Failed` may come instead of any message to the agent, and ends the channel.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::User;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::oci::{Process, Spec};
use crate::sys::filter::Filter;

/// Longest frame in bytes: a configuration with the largest environment and seccomp profile.
pub(crate) const MAX_FRAME: usize = 16 << 20;

/// Most descriptors with one frame: three streams and a pidfd.
pub(crate) const MAX_DESCRIPTORS: usize = 4;

/// What a `container-init` shall become; the first frame.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The container's id.
    pub(crate) container_id: String,
    /// The container's configuration.
    pub(crate) spec: Box<Spec>,
    /// The process to run; replaces that of the configuration.
    pub(crate) process: Box<Process>,
    /// What the configuration's seccomp profile was compiled to.
    pub(crate) filter: Option<Filter>,
    /// Absolute path of the container's cgroup.
    pub(crate) cgroup: PathBuf,
    /// Joins a running container (its init's pidfd comes last of the descriptors).
    pub(crate) join: bool,
}

/// Later frames to `container-init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// The forked process is registered and in its cgroup.
    Proceed,
    /// Run the workload's program.
    Start,
}

/// Frames to the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The process that becomes the workload exists, by its id in the agent's pid namespace.
    Forked {
        /// Process id.
        pid: i32,
        /// Whether it is in its cgroup.
        placed: bool,
    },
    /// The terminal's controlling side comes with this frame.
    Terminal,
    /// Everything is prepared up to the execution of the program.
    Created {
        /// Who the process is.
        user: User,
    },
    /// It cannot be done; the process ends.
    Failed(Failure),
}

/// Why a process could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// Whose fault it is.
    pub(crate) kind: FailureKind,
    /// One line, most general part first.
    pub(crate) message: String,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    /// The configuration asks for what cannot be.
    Configuration,
    /// The program cannot be executed.
    Program,
    /// The guest failed.
    Guest,
}

/// Sends a frame and waits until it is gone.
///
/// # Errors
/// The other side is gone, or the message is too long.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let frame = encode(message)?;
    let mut sent = send_part(socket, &frame, descriptors)?;
    while sent < frame.len() {
        sent += send_part(socket, &frame[sent..], &[])?;
    }
    Ok(())
}

/// A message as it travels.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    if body.len() > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "configuration too long"));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(body);
    Ok(frame)
}

/// Sends some of `bytes`, with the descriptors if there are any. Without, it is a plain write(2):
/// a seccomp profile that is in force already may deny sendmsg(2).
pub(crate) fn send_part(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if descriptors.is_empty() {
        // Programs in Rust start with SIGPIPE ignored.
        return Ok(rustix::io::retry_on_intr(|| rustix::io::write(socket, bytes))?);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Receives some bytes; 0 at the end.
pub(crate) fn receive_part(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    Ok(message.bytes)
}

/// Bytes of frames that arrived, and what came with them.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    plain: bool,
}

impl Incoming {
    /// Reads once from the socket; 0 at the end.
    pub(crate) fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        let count = if self.plain {
            rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut buffer))?
        } else {
            receive_part(socket, &mut buffer, &mut self.descriptors)?
        };
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// From now on no descriptors come, and read(2) is enough: a seccomp profile may deny
    /// recvmsg(2).
    pub(crate) fn read_plainly(&mut self) {
        self.plain = true;
    }

    /// Takes the next frame if all of it is there.
    pub(crate) fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(io::Error::other)?;
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + length);
        Ok(Some(message))
    }

    /// Takes the descriptors that came with the frames so far.
    pub(crate) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }
}

/// Waits for the next frame on a blocking socket; `None` at the end.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
    incoming: &mut Incoming,
) -> io::Result<Option<T>> {
    loop {
        if let Some(message) = incoming.take()? {
            return Ok(Some(message));
        }
        if incoming.fill(socket.as_fd())? == 0 {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, Incoming, Report, receive, send};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn frames_and_descriptors_arrive_in_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(ours.as_fd(), &Command::Proceed, &[ours.as_fd()]).unwrap();
        send(ours.as_fd(), &Report::Forked { pid: 7, placed: true }, &[]).unwrap();
        drop(ours);
        let mut incoming = Incoming::default();
        assert_eq!(receive(&theirs, &mut incoming).unwrap(), Some(Command::Proceed));
        assert_eq!(incoming.take_descriptors().len(), 1);
        incoming.read_plainly();
        let report: Option<Report> = receive(&theirs, &mut incoming).unwrap();
        assert!(matches!(report, Some(Report::Forked { pid: 7, placed: true })));
        assert!(receive::<Report>(&theirs, &mut incoming).unwrap().is_none());
    }

    #[test]
    fn an_oversized_frame_is_refused() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        rustix::io::write(&ours, &u32::MAX.to_le_bytes()).unwrap();
        assert!(receive::<Report>(&theirs, &mut Incoming::default()).is_err());
    }
}
