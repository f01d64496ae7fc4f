//! The line by which a client on the host says which port of the guest it wants:
//! `CONNECT <port>\n`, the port in decimal.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::net::{RecvFlags, recv};

/// Longest line: `CONNECT 4294967295\n`.
const MAX_LINE: usize = 19;

/// What has become of a client's line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// The line is not complete yet.
    Incomplete,
    /// The client wants this port.
    Port(u32),
}

/// Takes the line, and nothing after it, from a non-blocking stream.
///
/// # Errors
/// If the client has closed, or wrote something else.
pub(super) fn read_greeting(stream: &UnixStream) -> io::Result<Greeting> {
    let mut line = [0; MAX_LINE];
    let seen = match recv(stream, &mut line[..], RecvFlags::PEEK) {
        Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok((_, count)) => count.min(MAX_LINE),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(Greeting::Incomplete),
        Err(error) => return Err(error.into()),
    };
    let Some(end) = line[..seen].iter().position(|&byte| byte == b'\n') else {
        let invalid = seen == MAX_LINE;
        return if invalid {
            Err(io::ErrorKind::InvalidData.into())
        } else {
            Ok(Greeting::Incomplete)
        };
    };
    let port = parse(&line[..end]).ok_or(io::ErrorKind::InvalidData)?;
    recv(stream, &mut line[..=end], RecvFlags::empty())?;
    Ok(Greeting::Port(port))
}

fn parse(line: &[u8]) -> Option<u32> {
    let digits = line.strip_prefix(b"CONNECT ")?;
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn only_the_line_is_taken() {
        let (mut client, mut server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        assert_eq!(read_greeting(&server).unwrap(), Greeting::Incomplete);
        client.write_all(b"CONNECT 10").unwrap();
        assert_eq!(read_greeting(&server).unwrap(), Greeting::Incomplete);
        client.write_all(b"24\nhello").unwrap();
        assert_eq!(read_greeting(&server).unwrap(), Greeting::Port(1024));
        let mut rest = [0; 8];
        assert_eq!(server.read(&mut rest).unwrap(), 5);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["GET / HTTP/1.1\r\n", "CONNECT\n", "CONNECT +5\n", "CONNECT 4294967296\n"] {
            let (mut client, server) = UnixStream::pair().unwrap();
            server.set_nonblocking(true).unwrap();
            client.write_all(line.as_bytes()).unwrap();
            assert!(read_greeting(&server).is_err(), "{line:?}");
        }
        let (client, server) = UnixStream::pair().unwrap();
        drop(client);
        assert!(read_greeting(&server).is_err());
    }
}
