//! A socket to the kernel's routing tables. It belongs to the network namespace that the opening
//! thread was in at that moment. Any thread can use it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// Size of the header before each message: length, type, flags, sequence number, port.
const HEADER: usize = 16;

/// Largest batch that the kernel sends (`NLMSG_GOODSIZE` grows to the reader's buffer, at most this).
const BUFFER: usize = 32 << 10;

const DONE: u16 = 3;
const ERROR: u16 = 2;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const DUMP_INTERRUPTED: u16 = 0x10;

/// How often a listing that changed meanwhile is begun anew.
const RETRIES: usize = 16;

/// What a subscription is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups(u32);

impl Groups {
    /// Links, neighbours, and addresses, routes and rules of IPv4 and IPv6.
    pub const ALL: Self = Self(0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x4_0000);
}

/// A netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message without its header.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Socket {
    /// Opens a socket for requests.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn open() -> io::Result<Self> {
        Self::with(SocketFlags::CLOEXEC, 0)
    }

    /// Opens a socket that becomes readable when something changes; it does not block.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn subscribe(groups: Groups) -> io::Result<Self> {
        Self::with(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, groups.0)
    }

    fn with(flags: SocketFlags, groups: u32) -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Reads all that a subscription holds; whether there was anything. Messages that were lost
    /// for want of room are news, too.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut news = false;
        loop {
            match recv(&self.fd, &mut self.buffer[..], RecvFlags::empty()) {
                Ok(_) | Err(rustix::io::Errno::NOBUFS) => news = true,
                Err(rustix::io::Errno::AGAIN) => return Ok(news),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Lists objects: the bodies of all messages that the kernel answers.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        for _ in 0..RETRIES {
            self.request(kind, DUMP, body)?;
            if let Some(found) = self.answers()? {
                return Ok(found);
            }
        }
        Err(io::Error::other("the kernel's tables never stand still"))
    }

    /// Makes, changes or removes something; `flags` beyond request and acknowledgement.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn change(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.request(kind, ACK | flags, body)?;
        self.answers().map(drop)
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        send(&self.fd, &message, SendFlags::empty())?;
        Ok(())
    }

    /// All answers up to the last; `None` if they may not fit together.
    fn answers(&mut self) -> io::Result<Option<Vec<Vec<u8>>>> {
        let mut answers = Answers::default();
        while !answers.complete {
            let (length, _) = recv(&self.fd, &mut self.buffer[..], RecvFlags::empty())?;
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            let messages = std::iter::from_fn(|| next(&mut rest));
            let ours = |message: &Message<'_>| message.sequence == self.sequence;
            messages.filter(ours).try_for_each(|message| answers.take(&message))?;
        }
        Ok((!answers.interrupted).then_some(answers.found))
    }
}

/// What was answered to one request so far.
#[derive(Default)]
struct Answers {
    found: Vec<Vec<u8>>,
    interrupted: bool,
    complete: bool,
}

impl Answers {
    fn take(&mut self, message: &Message<'_>) -> io::Result<()> {
        self.interrupted |= message.flags & DUMP_INTERRUPTED != 0;
        if message.kind == DONE || message.kind == ERROR {
            self.complete = true;
            return result(message.body);
        }
        self.found.push(message.body.to_vec());
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The result at the beginning of an error or the end of a listing: 0 or a negative errno.
fn result(body: &[u8]) -> io::Result<()> {
    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code < 0 { Err(io::Error::from_raw_os_error(code.wrapping_neg())) } else { Ok(()) }
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<Message<'a>> {
    let header: &[u8; HEADER] = rest.first_chunk()?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
    let message = Message {
        kind: u16::from_ne_bytes([e, f]),
        flags: u16::from_ne_bytes([g, h]),
        sequence: u32::from_ne_bytes([i, j, k, l]),
        body: rest.get(HEADER..length)?,
    };
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed_and_nonsense_is_refused() {
        let mut socket = Socket::open().unwrap();
        assert!(!socket.dump(18, &[0; 16]).unwrap().is_empty());
        let error = socket.change(24, 0, &[0; 12]).unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
    }

    #[test]
    fn subscription_without_news_says_so() {
        assert!(!Socket::subscribe(Groups::ALL).unwrap().drain().unwrap());
    }
}
