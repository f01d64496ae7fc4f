//! Frames on the wire (the SPDY protocol, draft 3, section 2.2): eight bytes of header, and what
//! control frames have behind.

/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 8;
/// Most bytes of a control frame's content. Content of data is not kept, so it has no limit.
pub(super) const MOST_CONTROL: usize = 64 << 10;

const CONTROL: u8 = 0x80;
const VERSION: u16 = 3;
/// The flag by which a stream's side has no more to say.
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Why a stream is reset (section 2.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    ProtocolError = 1,
    RefusedStream = 3,
    Cancel = 5,
}

/// A frame's first eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    Data { stream: u32, last: bool, length: usize },
    Control { kind: u16, last: bool, length: usize },
}

/// What a control frame says, with its block of headers as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control<'a> {
    SynStream {
        stream: u32,
        last: bool,
        block: &'a [u8],
    },
    /// A reply or more headers; with the same meaning to who opens no stream.
    Headers {
        stream: u32,
        last: bool,
        block: &'a [u8],
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Windows, settings, and what the protocol may get in later versions.
    Other,
}

/// A frame that can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    #[error("a frame of version {0} of SPDY")]
    Version(u16),
    #[error("a control frame of {0} bytes, more than 65536")]
    TooLong(usize),
    #[error("a control frame of type {0} is too short")]
    TooShort(u16),
    #[error("content of stream 0")]
    NoStream,
}

fn word(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes)
}

/// Reads a frame's header.
pub(super) fn head(bytes: [u8; HEADER]) -> Result<Head, BadFrame> {
    let [a, b, c, d, flags, high, middle, low] = bytes;
    let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    let last = flags & FIN != 0;
    if a & CONTROL == 0 {
        let stream = word([a, b, c, d]);
        return if stream == 0 {
            Err(BadFrame::NoStream)
        } else {
            Ok(Head::Data { stream, last, length })
        };
    }
    let version = u16::from_be_bytes([a & !CONTROL, b]);
    if version != VERSION {
        return Err(BadFrame::Version(version));
    }
    if length > MOST_CONTROL {
        return Err(BadFrame::TooLong(length));
    }
    Ok(Head::Control { kind: u16::from_be_bytes([c, d]), last, length })
}

/// Reads a control frame's content.
pub(super) fn control(kind: u16, last: bool, content: &[u8]) -> Result<Control<'_>, BadFrame> {
    let short = BadFrame::TooShort(kind);
    let first = || content.split_first_chunk().map(|(bytes, _)| word(*bytes) & 0x7fff_ffff);
    let stream = || first().ok_or(short);
    let block = |from: usize| content.get(from..).ok_or(short);
    Ok(match kind {
        SYN_STREAM => Control::SynStream { stream: stream()?, last, block: block(10)? },
        SYN_REPLY | HEADERS => Control::Headers { stream: stream()?, last, block: block(4)? },
        RST_STREAM => Control::Reset { stream: stream()? },
        PING => {
            let id = content.split_first_chunk().map(|(bytes, _)| word(*bytes));
            Control::Ping { id: id.ok_or(short)? }
        }
        GOAWAY => Control::GoAway,
        SETTINGS | WINDOW_UPDATE => Control::Other,
        _ => Control::Other,
    })
}

/// Fills the header of a frame of data, whose content follows in `bytes`.
pub(super) fn fill_data(bytes: &mut [u8], stream: u32, last: bool) {
    let length = u32::try_from(bytes.len().saturating_sub(HEADER)).unwrap_or(u32::MAX);
    if let Some(header) = bytes.first_chunk_mut::<HEADER>() {
        *header = header_of(stream.to_be_bytes(), last, length);
    }
}

fn header_of(first: [u8; 4], last: bool, length: u32) -> [u8; HEADER] {
    let [a, b, c, d] = first;
    let [_, high, middle, low] = length.to_be_bytes();
    [a, b, c, d, u8::from(last), high, middle, low]
}

fn control_frame(kind: u16, last: bool, content: &[&[u8]]) -> Vec<u8> {
    let length: usize = content.iter().map(|part| part.len()).sum();
    let [c, d] = kind.to_be_bytes();
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let mut frame = header_of([CONTROL, VERSION.to_be_bytes()[1], c, d], last, length).to_vec();
    frame.extend(content.iter().copied().flatten());
    frame
}

/// A stream's reply, with compressed headers.
pub(super) fn reply(stream: u32, block: &[u8]) -> Vec<u8> {
    control_frame(SYN_REPLY, false, &[&stream.to_be_bytes(), block])
}

/// The end of a stream in both directions.
pub(super) fn reset(stream: u32, reason: Reason) -> Vec<u8> {
    control_frame(RST_STREAM, false, &[&stream.to_be_bytes(), &(reason as u32).to_be_bytes()])
}

/// The answer to a ping.
pub(super) fn ping(id: u32) -> Vec<u8> {
    control_frame(PING, false, &[&id.to_be_bytes()])
}

/// The end of the connection, after streams up to `last`. The status is that of no error.
pub(super) fn go_away(last: u32) -> Vec<u8> {
    control_frame(GOAWAY, false, &[&last.to_be_bytes(), &[0; 4]])
}

#[cfg(any(test, fuzzing))]
pub(crate) fn syn_stream(stream: u32, last: bool, block: &[u8]) -> Vec<u8> {
    control_frame(SYN_STREAM, last, &[&stream.to_be_bytes(), &[0; 4], &[0; 2], block])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_protocol() {
        assert_eq!(ping(5), [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 5]);
        let cancel = [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 5];
        assert_eq!(reset(7, Reason::Cancel), cancel);
        assert_eq!(go_away(9), [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0]);
        let mut data = vec![0; HEADER];
        data.extend([1; 0x1_0203]);
        fill_data(&mut data, 3, true);
        assert_eq!(data[..9], [0, 0, 0, 3, 1, 1, 2, 3, 1]);
    }

    #[test]
    fn frame_is_read_as_it_was_written() {
        let frame = syn_stream(0x7fff_ffff, true, &[1, 2]);
        let (header, content) = frame.split_first_chunk().unwrap();
        let Ok(Head::Control { kind, last, length }) = head(*header) else { panic!("no control") };
        assert_eq!((kind, last, length), (SYN_STREAM, true, 12));
        let stream = Control::SynStream { stream: 0x7fff_ffff, last, block: &[1, 2] };
        assert_eq!(control(kind, last, content), Ok(stream));
        let data = head([0, 0, 0, 1, 0, 0xff, 0xff, 0xff]);
        assert_eq!(data, Ok(Head::Data { stream: 1, last: false, length: 0xff_ffff }));
    }

    #[test]
    fn what_can_not_be_is_refused() {
        assert_eq!(head([0; 8]), Err(BadFrame::NoStream));
        assert_eq!(head([0x80, 2, 0, 1, 0, 0, 0, 0]), Err(BadFrame::Version(2)));
        assert_eq!(head([0x80, 3, 0, 1, 0, 1, 0, 1]), Err(BadFrame::TooLong(65537)));
        for (kind, short) in [(SYN_STREAM, 9), (SYN_REPLY, 3), (RST_STREAM, 3), (PING, 3)] {
            let content = vec![0; short];
            assert_eq!(control(kind, false, &content), Err(BadFrame::TooShort(kind)));
        }
        assert_eq!(control(WINDOW_UPDATE, false, &[]), Ok(Control::Other));
        assert_eq!(control(77, false, &[]), Ok(Control::Other));
    }
}
