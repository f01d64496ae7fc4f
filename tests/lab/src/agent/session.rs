//! One connection: reads the request, runs the command, carries its streams.
//!
//! A single loop polls the connection, the streams and the process. Output is written to the
//! connection as it comes, which stops the command when the driver does not read. Input is taken
//! from the connection only while none waits for the command. When the connection ends early the
//! command's process group is killed.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::process::Process;
use crate::frame::{self, Decoder, Frame, Kind, Request};

#[cfg(test)]
mod tests;

const CHUNK: usize = 64 * 1024;

/// End of input as a terminal knows it: the EOF character, control-D.
const END_OF_TRANSMISSION: u8 = 4;

/// How long a driver may take to close the connection after it has the exit code.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Serves one connection to its end.
pub(super) fn run(stream: &TcpStream, token: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut decoder = Decoder::default();
    let request = read_request(stream, &mut decoder)?;
    let started = if request.token == token {
        Process::spawn(&request)
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "wrong token"))
    };
    let process = match started {
        Ok(process) => process,
        Err(error) => {
            send(stream, Kind::Failed, error.to_string().as_bytes())?;
            return drain(stream);
        }
    };
    let mut session = Session { stream, decoder, process, input: Vec::new(), input_ended: false };
    match session.until_exit() {
        Ok(code) => {
            send(stream, Kind::Exit, &code.to_be_bytes())?;
            drain(stream)
        }
        Err(error) => {
            session.process.kill();
            Err(error)
        }
    }
}

fn read_request(mut stream: &TcpStream, decoder: &mut Decoder) -> io::Result<Request> {
    let mut buffer = vec![0; CHUNK];
    loop {
        if let Some(Frame { kind, data }) = decoder.next_frame().map_err(io::Error::other)? {
            return match kind {
                Kind::Request => Ok(serde_json::from_slice(&data)?),
                _ => Err(io::Error::other("no request")),
            };
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => decoder.push(&buffer[..count]),
        }
    }
}

fn send(mut stream: &TcpStream, kind: Kind, data: &[u8]) -> io::Result<()> {
    stream.write_all(&frame::encode(kind, data))
}

/// Reads until the driver closes: closing first, with input unread, would reset the
/// connection and could lose the last frames.
fn drain(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(CLOSE_LIMIT))?;
    let mut buffer = vec![0; CHUNK];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

struct Session<'a> {
    stream: &'a TcpStream,
    decoder: Decoder,
    process: Process,
    /// Input that the command has not taken yet.
    input: Vec<u8>,
    input_ended: bool,
}

/// Which of the polled descriptors have something to do.
struct Events {
    connection: PollFlags,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    exited: bool,
}

impl Session<'_> {
    fn until_exit(&mut self) -> io::Result<i32> {
        self.take_frames()?;
        loop {
            let events = self.poll()?;
            if events.stdout {
                pump(&mut self.process.stdout, self.stream, Kind::Stdout)?;
            }
            if events.stderr {
                pump(&mut self.process.stderr, self.stream, Kind::Stderr)?;
            }
            if events.stdin {
                self.feed();
            }
            if events.exited {
                return self.finish();
            }
            if events.connection.intersects(PollFlags::IN) {
                self.receive()?;
            } else if !events.connection.is_empty() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
    }

    fn poll(&self) -> io::Result<Events> {
        // A full input buffer stops reading; the end of the connection is noticed all the same.
        let wanted = if self.input.is_empty() { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![
            PollFd::new(self.stream, wanted | PollFlags::RDHUP),
            PollFd::new(&self.process.pidfd, PollFlags::IN),
        ];
        let mut streams = [None; 3];
        let candidates = [
            (self.process.stdin.as_ref().filter(|_| !self.input.is_empty()), PollFlags::OUT),
            (self.process.stdout.as_ref(), PollFlags::IN),
            (self.process.stderr.as_ref(), PollFlags::IN),
        ];
        for (slot, (fd, flags)) in streams.iter_mut().zip(candidates) {
            if let Some(fd) = fd {
                *slot = Some(fds.len());
                fds.push(PollFd::new(fd, flags));
            }
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let happened = |slot: Option<usize>| {
            slot.and_then(|index| fds.get(index)).is_some_and(|fd| !fd.revents().is_empty())
        };
        let [stdin, stdout, stderr] = streams.map(happened);
        let exited = happened(Some(1));
        Ok(Events { connection: fds[0].revents(), stdin, stdout, stderr, exited })
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => {
                self.decoder.push(&buffer[..count]);
                self.take_frames()
            }
        }
    }

    fn take_frames(&mut self) -> io::Result<()> {
        while let Some(Frame { kind, data }) =
            self.decoder.next_frame().map_err(io::Error::other)?
        {
            match kind {
                Kind::Stdin => self.input.extend_from_slice(&data),
                Kind::StdinEnd => self.input_ended = true,
                Kind::Resize => self.process.resize(serde_json::from_slice(&data)?)?,
                _ => return Err(io::Error::other("unexpected frame")),
            }
        }
        if self.input_ended && self.process.terminal {
            self.input.push(END_OF_TRANSMISSION);
            self.input_ended = false;
        }
        self.feed();
        Ok(())
    }

    /// Writes waiting input as far as the command takes it; closes when all is written.
    fn feed(&mut self) {
        if let Some(stdin) = &self.process.stdin {
            match rustix::io::write(stdin, &self.input) {
                Ok(count) => drop(self.input.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => self.process.stdin = None, // the command closed its input
            }
        }
        if self.process.stdin.is_none() {
            self.input.clear();
        }
        if self.input.is_empty() && self.input_ended {
            self.process.stdin = None;
        }
    }

    /// The process has ended: what it wrote before is in the pipes, so reading until they are
    /// empty loses nothing and does not wait for children that keep them open.
    fn finish(&mut self) -> io::Result<i32> {
        let status = self.process.wait()?;
        while pump(&mut self.process.stdout, self.stream, Kind::Stdout)? {}
        while pump(&mut self.process.stderr, self.stream, Kind::Stderr)? {}
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }
}

/// Passes one chunk on; closes `source` at end of file. False when nothing was there.
fn pump(source: &mut Option<OwnedFd>, stream: &TcpStream, kind: Kind) -> io::Result<bool> {
    let Some(fd) = source else { return Ok(false) };
    let mut buffer = vec![0; CHUNK];
    match rustix::io::read(fd, &mut buffer) {
        Ok(count) if count > 0 => {
            send(stream, kind, &buffer[..count])?;
            Ok(true)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(false),
        // A terminal whose last user is gone reads as EIO.
        Ok(_) | Err(_) => {
            *source = None;
            Ok(false)
        }
    }
}
