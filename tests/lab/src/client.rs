//! Runs one command in L1 over a connection to `lab-agent`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::SIGWINCH;
use signal_hook::iterator::Signals;

use crate::frame::{self, Decoder, Frame, FrameError, Kind, Request};
use crate::terminal;

/// Bytes read at once from local input and from the connection.
const CHUNK: usize = 64 * 1024;

/// Why a command has no exit code.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The agent broke the protocol.
    #[error("reading the agent's answer")]
    Protocol(#[from] FrameError),
    /// The agent could not run the command.
    #[error("agent: {0}")]
    Refused(String),
    /// The connection ended before the command did: L1 is gone.
    #[error("L1 died while the command ran")]
    Lost,
    /// The time limit passed; the command was killed.
    #[error("no end of the command within {0:?}")]
    TimedOut(Duration),
    /// The command wrote nothing for this long; it was killed.
    #[error("the command wrote nothing for {0:?}")]
    Silent(Duration),
    /// The command's output could not be passed on.
    #[error("writing the command's output")]
    Output(#[source] io::Error),
    /// The request could not be sent.
    #[error("sending the command")]
    Send(#[source] io::Error),
}

/// Where a command's input comes from and its output goes.
#[expect(missing_debug_implementations, reason = "trait objects of I/O have no debug form")]
pub struct Streams<'a> {
    /// Standard input; end of file at once if absent.
    pub input: Option<Box<dyn Read + Send>>,
    /// Standard output, and the terminal's output.
    pub output: &'a mut dyn Write,
    /// Standard error.
    pub error: &'a mut dyn Write,
}

/// How long a command may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From its start to its end.
    pub total: Duration,
    /// From one output to the next.
    pub silence: Duration,
}

/// Runs `request` over `stream` and returns its exit code (128 + signal when it was killed).
/// The agent kills the command when the connection ends early, so nothing is left behind.
///
/// # Errors
/// See [`ExecError`]; the limits count from now.
pub fn exec(
    stream: &TcpStream,
    request: &Request,
    streams: Streams<'_>,
    limits: Limits,
) -> Result<i32, ExecError> {
    let json = serde_json::to_vec(request).map_err(|error| ExecError::Send(error.into()))?;
    let mut writer = stream;
    writer.write_all(&frame::encode(Kind::Request, &json)).map_err(ExecError::Send)?;
    let sender = stream.try_clone().map_err(ExecError::Send)?;
    if request.terminal.is_some() {
        forward_resizes(stream.try_clone().map_err(ExecError::Send)?)?;
    }
    match streams.input {
        // The thread ends with its input or with the connection; it is never joined, because
        // a read of a terminal cannot be interrupted.
        Some(input) => drop(thread::spawn(move || forward_input(input, &sender))),
        None => {
            // A command that is already over closes the connection: no error.
            let _ = writer.write_all(&frame::encode(Kind::StdinEnd, &[]));
        }
    }
    let result = receive(stream, streams.output, streams.error, limits);
    let _ = stream.shutdown(Shutdown::Both);
    result
}

fn forward_input(mut input: Box<dyn Read + Send>, mut stream: &TcpStream) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        let bytes = match count {
            0 => frame::encode(Kind::StdinEnd, &[]),
            _ => frame::encode(Kind::Stdin, &buffer[..count]),
        };
        if stream.write_all(&bytes).is_err() || count == 0 {
            return;
        }
    }
}

/// Sends the new size whenever the local terminal changes; whole frames are written by one
/// call each, so they do not mix with those of the input thread.
fn forward_resizes(mut stream: TcpStream) -> Result<(), ExecError> {
    let mut signals = Signals::new([SIGWINCH]).map_err(ExecError::Send)?;
    thread::spawn(move || {
        for _ in signals.forever() {
            let Ok(json) = serde_json::to_vec(&terminal::window_size()) else { return };
            if stream.write_all(&frame::encode(Kind::Resize, &json)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn receive(
    mut stream: &TcpStream,
    output: &mut dyn Write,
    error: &mut dyn Write,
    limits: Limits,
) -> Result<i32, ExecError> {
    let deadline = Instant::now() + limits.total;
    let mut silent_until = Instant::now() + limits.silence;
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        while let Some(Frame { kind, data }) = decoder.next_frame()? {
            match kind {
                Kind::Stdout => pass_on(output, &data)?,
                Kind::Stderr => pass_on(error, &data)?,
                Kind::Exit => return Ok(exit_code(&data)),
                Kind::Failed => {
                    return Err(ExecError::Refused(String::from_utf8_lossy(&data).into_owned()));
                }
                Kind::Request | Kind::Stdin | Kind::StdinEnd | Kind::Resize => {}
            }
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(ExecError::TimedOut(limits.total));
        }
        if now >= silent_until {
            return Err(ExecError::Silent(limits.silence));
        }
        let left = deadline.min(silent_until) - now;
        stream.set_read_timeout(Some(left)).map_err(ExecError::Send)?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ExecError::Lost),
            Ok(count) => {
                decoder.push(&buffer[..count]);
                silent_until = Instant::now() + limits.silence;
            }
            Err(error) if is_retry(error.kind()) => {}
            Err(_) => return Err(ExecError::Lost),
        }
    }
}

/// A timeout is noticed by the deadline, an interruption is no event.
fn is_retry(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(kind, WouldBlock | TimedOut | Interrupted)
}

fn pass_on(to: &mut dyn Write, data: &[u8]) -> Result<(), ExecError> {
    to.write_all(data).and_then(|()| to.flush()).map_err(ExecError::Output)
}

fn exit_code(data: &[u8]) -> i32 {
    data.first_chunk().map_or(255, |bytes| i32::from_be_bytes(*bytes))
}
