//! Wire format between `lab` and `lab-agent`: one byte of kind, four bytes of big-endian length,
//! then the data.
//!
//! A connection carries one command. `lab` sends [`Kind::Request`] first. Then it sends any number
//! of [`Kind::Stdin`] and [`Kind::Resize`] and at most one [`Kind::StdinEnd`]. The agent sends
//! [`Kind::Stdout`] and [`Kind::Stderr`] and ends with [`Kind::Exit`] or [`Kind::Failed`].

use serde::{Deserialize, Serialize};

/// Largest data of one frame in bytes; a longer length is a protocol error.
pub const MAX_DATA: usize = 1 << 20;

/// Size of the header in bytes.
const HEADER: usize = 5;

/// What a frame carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A [`Request`] as JSON; first frame of a connection.
    Request,
    /// Bytes for the standard input of the command.
    Stdin,
    /// End of standard input; no data.
    StdinEnd,
    /// A [`WindowSize`] as JSON, for commands with a terminal.
    Resize,
    /// Bytes that the command wrote to standard output, or to its terminal.
    Stdout,
    /// Bytes that the command wrote to standard error.
    Stderr,
    /// Four bytes, big endian: the exit code, or 128 + the signal that killed the command.
    Exit,
    /// Why the command could not be run, as text.
    Failed,
}

impl Kind {
    const ALL: [(Self, u8); 8] = [
        (Self::Request, 1),
        (Self::Stdin, 2),
        (Self::StdinEnd, 3),
        (Self::Resize, 4),
        (Self::Stdout, 16),
        (Self::Stderr, 17),
        (Self::Exit, 18),
        (Self::Failed, 19),
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, code)| *code == byte).map(|(kind, _)| *kind)
    }

    fn byte(self) -> u8 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, code)| *code)
    }
}

/// A command to run in L1.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Request {
    /// The lab's secret; requests with another one are refused.
    pub token: String,
    /// Program and arguments; the program is looked up in PATH.
    pub argv: Vec<String>,
    /// Variables added to the agent's environment.
    pub env: Vec<(String, String)>,
    /// Working directory; `/root` if absent.
    pub cwd: Option<String>,
    /// Size of the terminal to create for the command; pipes if absent.
    pub terminal: Option<WindowSize>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// One received frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// What the data is.
    pub kind: Kind,
    /// At most [`MAX_DATA`] bytes.
    pub data: Vec<u8>,
}

/// Why received bytes are not frames.
#[derive(Debug, thiserror::Error, Eq, PartialEq)]
pub enum FrameError {
    /// The kind is none of [`Kind`].
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The length exceeds [`MAX_DATA`].
    #[error("frame of {0} bytes is too long")]
    TooLong(usize),
}

/// Encodes `data` as frames of `kind`, cutting it into several when it exceeds [`MAX_DATA`];
/// empty data gives one empty frame.
#[must_use]
pub fn encode(kind: Kind, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + data.len());
    let mut rest = data;
    loop {
        let (part, after) = rest.split_at(rest.len().min(MAX_DATA));
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bytes.push(kind.byte());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part);
        rest = after;
        if rest.is_empty() {
            return bytes;
        }
    }
}

/// Cuts a byte stream into frames, however the bytes arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next complete frame, or `None` until more bytes have arrived.
    ///
    /// # Errors
    /// A kind or a length that the protocol does not have; the stream is then unusable.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [code, length @ ..] = *header;
        let kind = Kind::from_byte(code).ok_or(FrameError::UnknownKind(code))?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_DATA {
            return Err(FrameError::TooLong(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let data = rest[..length].to_vec();
        self.bytes.drain(..HEADER + length);
        Ok(Some(Frame { kind, data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(stream: &[u8], step: usize) -> Vec<(Kind, Vec<u8>)> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for part in stream.chunks(step) {
            decoder.push(part);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push((frame.kind, frame.data));
            }
        }
        frames
    }

    #[test]
    fn frames_survive_any_cut_of_the_stream() {
        let mut stream = encode(Kind::Stdout, b"hello");
        stream.extend(encode(Kind::StdinEnd, b""));
        stream.extend(encode(Kind::Exit, &7u32.to_be_bytes()));
        let expected = [
            (Kind::Stdout, b"hello".to_vec()),
            (Kind::StdinEnd, Vec::new()),
            (Kind::Exit, vec![0, 0, 0, 7]),
        ];
        for step in 1..stream.len() {
            assert_eq!(decode(&stream, step), expected);
        }
    }

    #[test]
    fn long_data_is_cut_into_frames() {
        let data = vec![9; MAX_DATA + 1];
        let mut decoder = Decoder::default();
        decoder.push(&encode(Kind::Stdin, &data));
        assert_eq!(decoder.next_frame().unwrap().unwrap().data.len(), MAX_DATA);
        assert_eq!(decoder.next_frame().unwrap().unwrap().data.len(), 1);
        assert_eq!(decoder.next_frame().unwrap(), None);
    }

    #[test]
    fn unknown_kinds_and_lengths_are_errors() {
        let mut decoder = Decoder::default();
        decoder.push(&[99, 0, 0, 0, 0]);
        assert_eq!(decoder.next_frame(), Err(FrameError::UnknownKind(99)));
        let mut decoder = Decoder::default();
        decoder.push(&[1, 255, 0, 0, 0]);
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong(255 << 24)));
    }

    #[test]
    fn every_kind_has_its_own_byte() {
        for (kind, code) in Kind::ALL {
            assert_eq!(Kind::from_byte(code), Some(kind));
            assert_eq!(kind.byte(), code);
        }
        assert_eq!(Kind::from_byte(0), None);
    }
}
