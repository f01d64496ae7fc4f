//! A client's side of a WebSocket, against the server of exec and port-forward. There is no
//! socket. A message may hold channels' content, a part of SPDY, or anything.
//!
//! Checked besides panics:
//! - Each session ends once its client has gone.
//! - The server sends whole frames without a mask, and nothing behind its end.
//! - What it sends on channels is on those that it has.
//! - No allocation is larger than the state of a compression.

use arbitrary::{Arbitrary, Unstructured};
use streaming::fuzzing::{Client, Service, serve};

use crate::{hostile, limits};

/// Most bytes of one allocation: the state of the server's compression of headers.
const LARGEST: usize = 384 << 10;

#[derive(Debug, Arbitrary)]
enum Op {
    Content { channel: u8, text: bool, content: Vec<u8> },
    Base64 { channel: u8, content: Vec<u8> },
    Close(u8),
    Size { columns: u16, rows: u16 },
    Open { stream: u8, error: bool, port: u8, request: u8 },
    Message { first: u8, mask: [u8; 4], content: Vec<u8> },
    Bytes(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Input {
    service: u8,
    piece: u8,
    ops: Vec<Op>,
}

fn frame(first: u8, mask: [u8; 4], content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut frame = vec![first];
    match u8::try_from(length) {
        Ok(short @ ..=125) => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn bytes(op: &Op, client: &mut Client) -> Vec<u8> {
    let binary = |content: &[u8]| frame(0x82, [0; 4], content);
    match op {
        Op::Content { channel, text, content } => {
            let content = [&[*channel % 8], &content[..]].concat();
            frame(if *text { 0x81 } else { 0x82 }, [1, 2, 3, 4], &content)
        }
        Op::Base64 { channel, content } => {
            // Each byte as four letters: not the shortest, but good.
            let letters = content.iter().flat_map(|byte| [b'A' + byte % 26, b'a', b'0', b'/']);
            let content: Vec<u8> = std::iter::once(b'0' + channel % 8).chain(letters).collect();
            frame(0x81, [0; 4], &content)
        }
        Op::Close(channel) => binary(&[255, *channel % 8]),
        Op::Size { columns, rows } => {
            let size = format!(r#"{}{{"Width":{columns},"Height":{rows}}}"#, '\u{4}');
            binary(size.as_bytes())
        }
        Op::Open { stream, error, port, request } => {
            let kind = if *error { "error" } else { "data" };
            let headers = [
                ("streamtype", kind.to_owned()),
                ("port", port.to_string()),
                ("requestid", (request % 4).to_string()),
            ];
            let headers = headers.map(|(name, value)| (name.to_owned(), value));
            binary(&client.open((*stream).into(), false, &headers))
        }
        Op::Message { first, mask, content } => frame(*first, *mask, content),
        Op::Bytes(bytes) => bytes.clone(),
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let mut client = Client::new();
    let sent: Vec<_> = input.ops.iter().flat_map(|op| bytes(op, &mut client)).collect();
    let (service, channels) = match input.service % 5 {
        0 => (Service::ExecChannels(false), Some(0..4)),
        1 => (Service::ExecChannels(true), Some(b'0'..b'4')),
        2 => (Service::ForwardChannels(false), Some(0..4)),
        3 => (Service::ForwardChannels(true), Some(b'0'..b'4')),
        _ => (Service::Tunnel, None),
    };
    hostile::records();
    let received = limits::within(LARGEST.max(2 * sent.len()), || {
        hostile::runtime().block_on(serve(service, &sent, input.piece.into()))
    });
    check(&received, channels);
}

/// Fails if a server would not send this.
fn check(mut rest: &[u8], channels: Option<std::ops::Range<u8>>) {
    // The end of the connection may come in the middle of a frame.
    while let [first, length, after @ ..] = rest {
        assert_eq!(length & 0x80, 0, "a mask");
        let (length, after) = match (length, after) {
            (126, [high, low, after @ ..]) => (u16::from_be_bytes([*high, *low]).into(), after),
            (127, [_, _, _, _, _, high, middle, low, after @ ..]) => {
                (u32::from_be_bytes([0, *high, *middle, *low]) as usize, after)
            }
            (126 | 127, _) => return,
            (short, after) => (usize::from(*short), after),
        };
        let Some((content, after)) = after.split_at_checked(length) else { return };
        rest = after;
        match first {
            0x81 | 0x82 => {
                if let Some(channels) = &channels {
                    assert!(channels.contains(&content[0]), "channel {}", content[0]);
                }
            }
            0x88 => assert!(rest.is_empty(), "{} bytes behind the end", rest.len()),
            0x8a => assert!(length <= 125),
            other => panic!("a frame that begins with {other:#x}"),
        }
    }
}
