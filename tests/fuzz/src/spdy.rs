//! A client's side of SPDY, against the server of exec and port-forward. There is no socket.
//!
//! Checked besides panics:
//! - Each session ends once its client has gone.
//! - The server sends whole frames, of the kinds that servers send, and nothing behind its end.
//! - It replies only to streams with odd numbers, once, and sends content only after that.
//! - No allocation is larger than the state of a compression.

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Unstructured};
use streaming::fuzzing::{Client, Service, serve};

use crate::{hostile, limits};

/// Most bytes of one allocation: the state of the server's compression. A control frame's content,
/// and what it inflates to, are less.
const LARGEST: usize = 384 << 10;

#[derive(Debug, Arbitrary)]
enum Op {
    Open { stream: u8, last: bool, kind: u8, port: u8, request: u8 },
    OpenWith { stream: u32, last: bool, headers: Vec<(String, String)> },
    Data { stream: u8, last: bool, content: Vec<u8> },
    Size { stream: u8, columns: u16, rows: u16 },
    Reset(u8),
    Ping(u32),
    Control { kind: u8, flags: u8, content: Vec<u8> },
    Bytes(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Input {
    forward: bool,
    piece: u8,
    ops: Vec<Op>,
}

fn control(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = (content.len() as u32).to_be_bytes();
    [&[0x80, 3, 0, kind, flags, high, middle, low], content].concat()
}

fn data(stream: u8, last: bool, content: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = (content.len() as u32).to_be_bytes();
    [&[0, 0, 0, stream, u8::from(last), high, middle, low], content].concat()
}

fn bytes(op: &Op, client: &mut Client) -> Vec<u8> {
    let kinds = ["stdin", "stdout", "stderr", "error", "resize", "data"];
    match op {
        Op::Open { stream, last, kind, port, request } => {
            let kind = kinds[usize::from(*kind) % kinds.len()];
            let headers = [
                ("streamtype", kind.to_owned()),
                ("port", port.to_string()),
                ("requestid", (request % 4).to_string()),
            ];
            let headers = headers.map(|(name, value)| (name.to_owned(), value));
            client.open((*stream).into(), *last, &headers)
        }
        Op::OpenWith { stream, last, headers } => client.open(*stream, *last, headers),
        Op::Data { stream, last, content } => data(*stream, *last, content),
        Op::Size { stream, columns, rows } => {
            let size = format!(r#"{{"Width":{columns},"Height":{rows}}}"#);
            data(*stream, false, size.as_bytes())
        }
        Op::Reset(stream) => control(3, 0, &[0, 0, 0, *stream, 0, 0, 0, 5]),
        Op::Ping(id) => control(6, 0, &id.to_be_bytes()),
        Op::Control { kind, flags, content } => control(*kind, *flags, content),
        Op::Bytes(bytes) => bytes.clone(),
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let mut client = Client::new();
    let sent: Vec<_> = input.ops.iter().flat_map(|op| bytes(op, &mut client)).collect();
    let service = if input.forward { Service::Forward } else { Service::Exec };
    hostile::records();
    let received = limits::within(LARGEST.max(2 * sent.len()), || {
        hostile::runtime().block_on(serve(service, &sent, input.piece.into()))
    });
    check(&received);
}

/// Fails if a server would not send this.
fn check(mut rest: &[u8]) {
    let (mut replied, mut ended) = (BTreeSet::new(), BTreeSet::new());
    // The end of the connection may come in the middle of a frame.
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let Some((content, after)) = after.split_at_checked(length) else { return };
        rest = after;
        if head[0] & 0x80 == 0 {
            let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            assert!(replied.contains(&stream), "content of stream {stream} without a reply");
            assert!(!ended.contains(&stream), "content of stream {stream} behind its end");
            if head[4] == 1 {
                ended.insert(stream);
            }
            continue;
        }
        assert_eq!(head[..3], [0x80, 3, 0]);
        let first = u32::from_be_bytes(content[..4].try_into().unwrap());
        match head[3] {
            2 => assert!(first % 2 == 1 && replied.insert(first), "a reply to {first}"),
            // A second stream of the same number is refused, and the first one lives on.
            3 if content[7] == 1 => {}
            3 => {
                ended.insert(first);
            }
            6 => assert!(first % 2 == 1),
            7 => assert!(rest.is_empty(), "{} bytes behind the end", rest.len()),
            kind => panic!("a frame of type {kind}"),
        }
    }
}
