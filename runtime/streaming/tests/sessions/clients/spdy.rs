//! A client of SPDY/3.1, frame by frame.

use std::collections::HashMap;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

use super::{Answer, request};

#[path = "../../../src/spdy/dictionary.rs"]
#[allow(unreachable_pub, reason = "the server's own file")]
mod dictionary;

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Reply(u32),
    Data { stream: u32, last: bool, bytes: Vec<u8> },
    Reset { stream: u32, reason: u32 },
    Ping(u32),
    GoAway(u32),
}

pub(crate) struct Reader<S> {
    socket: ReadHalf<S>,
    inflate: Decompress,
}

pub(crate) struct Writer<S> {
    socket: WriteHalf<S>,
    deflate: Compress,
}

/// A connection, after the upgrade.
pub(crate) struct Client<S> {
    pub(crate) reader: Reader<S>,
    pub(crate) writer: Writer<S>,
}

/// What came on all streams, to the end.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) content: HashMap<u32, Vec<u8>>,
    /// Streams in the order of their ends.
    pub(crate) ended: Vec<u32>,
    pub(crate) reset: Vec<u32>,
    pub(crate) said_goodbye: bool,
}

impl Received {
    pub(crate) fn text(&self, stream: u32) -> String {
        String::from_utf8_lossy(self.content.get(&stream).map_or(&[], Vec::as_slice)).into_owned()
    }

    pub(crate) fn add(&mut self, frame: Frame) {
        match frame {
            Frame::Data { stream, last, bytes } => {
                self.content.entry(stream).or_default().extend(bytes);
                if last {
                    self.ended.push(stream);
                }
            }
            Frame::Reset { stream, .. } => self.reset.push(stream),
            Frame::GoAway(_) => self.said_goodbye = true,
            Frame::Reply(_) | Frame::Ping(_) => {}
        }
    }
}

/// Upgrades to SPDY and offers `versions`.
pub(crate) async fn upgrade(url: &str, versions: &str) -> Answer {
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", versions),
        ("Content-Length", "0"),
    ];
    request("POST", url, &headers).await
}

/// A connection with this version.
pub(crate) async fn connect(url: &str, version: &str) -> Client<tokio::net::TcpStream> {
    let answer = upgrade(url, version).await;
    assert_eq!(answer.status, 101, "{}", answer.head);
    assert_eq!(answer.header("x-stream-protocol-version"), Some(version));
    assert_eq!(answer.header("upgrade"), Some("SPDY/3.1"));
    Client::new(answer.socket)
}

/// A control frame.
pub(crate) fn control(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let head = [0x80, 3, 0, kind, flags, length[1], length[2], length[3]];
    [&head, content].concat()
}

impl<S: AsyncRead + AsyncWrite> Client<S> {
    pub(crate) fn new(socket: S) -> Self {
        let (read, write) = split(socket);
        let mut deflate = Compress::new(Compression::best(), true);
        deflate.set_dictionary(dictionary::DICTIONARY).unwrap();
        let reader = Reader { socket: read, inflate: Decompress::new(true) };
        Self { reader, writer: Writer { socket: write, deflate } }
    }

    /// Opens a stream of this type and waits for the reply.
    pub(crate) async fn open(&mut self, stream: u32, kind: &str) {
        self.open_with(stream, &[("Streamtype", kind)]).await;
    }

    /// Opens the streams of a process without a terminal: 1 is for errors, 3 for input, 5 and 7
    /// for output.
    pub(crate) async fn open_all(&mut self) {
        for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
            self.open(stream, kind).await;
        }
    }

    /// Opens a stream with headers and waits for the reply.
    pub(crate) async fn open_with(&mut self, stream: u32, headers: &[(&str, &str)]) {
        self.writer.open(stream, headers).await;
        assert_eq!(self.reader.next().await, Some(Frame::Reply(stream)));
    }

    /// Reads to the end of the connection, and closes it.
    pub(crate) async fn finish(mut self) -> Received {
        let mut received = Received::default();
        while let Some(frame) = self.reader.next().await {
            received.add(frame);
            // As `moby/spdystream`, which reads nothing behind it.
            if received.said_goodbye {
                self.writer.bytes(&control(7, 0, &[0; 8])).await;
                break;
            }
        }
        received
    }

    /// Reads until a stream's content ends with `text`.
    pub(crate) async fn until(&mut self, stream: u32, text: &str) {
        let mut received = Received::default();
        while !received.text(stream).ends_with(text) {
            received.add(self.reader.next().await.expect("the end"));
        }
    }
}

impl<S: AsyncRead> Reader<S> {
    /// The next frame; none at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 8];
        self.socket.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
        let mut content = vec![0; length];
        self.socket.read_exact(&mut content).await.ok()?;
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
        if head[0] & 0x80 == 0 {
            let (stream, last) = (word(&head), head[4] == 1);
            return Some(Frame::Data { stream, last, bytes: content });
        }
        assert_eq!(head[..3], [0x80, 3, 0]);
        Some(match head[3] {
            2 => {
                self.no_headers(&content[4..]);
                Frame::Reply(word(&content))
            }
            3 => Frame::Reset { stream: word(&content), reason: word(&content[4..]) },
            6 => Frame::Ping(word(&content)),
            7 => Frame::GoAway(word(&content)),
            kind => panic!("a frame of type {kind}"),
        })
    }

    /// Inflates a block, which says that there are no headers.
    fn no_headers(&mut self, block: &[u8]) {
        let mut headers = Vec::with_capacity(64);
        let start = self.inflate.total_in();
        let mut rest = block;
        while let Err(error) =
            self.inflate.decompress_vec(rest, &mut headers, FlushDecompress::Sync)
        {
            assert!(error.needs_dictionary().is_some());
            self.inflate.set_dictionary(dictionary::DICTIONARY).unwrap();
            rest = &block[usize::try_from(self.inflate.total_in() - start).unwrap()..];
        }
        assert_eq!(headers, [0; 4]);
    }
}

impl<S: AsyncWrite> Writer<S> {
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        // A server that has gone shows when it is read from.
        let _gone = self.socket.write_all(bytes).await;
        let _gone = self.socket.flush().await;
    }

    /// A compressed block.
    pub(crate) fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let number = |count: usize| u32::try_from(count).unwrap().to_be_bytes();
        let mut block = number(headers.len()).to_vec();
        for text in
            headers.iter().flat_map(|(name, value)| [name.to_lowercase(), value.to_string()])
        {
            block.extend(number(text.len()));
            block.extend(text.bytes());
        }
        let mut compressed = Vec::with_capacity(block.len() + 1024);
        self.deflate.compress_vec(&block, &mut compressed, FlushCompress::Sync).unwrap();
        compressed
    }

    pub(crate) async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let block = self.block(headers);
        let content = [&stream.to_be_bytes()[..], &[0; 6], &block].concat();
        self.bytes(&control(1, 0, &content)).await;
    }

    pub(crate) async fn data(&mut self, stream: u32, last: bool, content: &[u8]) {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        let head = [u8::from(last), length[1], length[2], length[3]];
        self.bytes(&[&stream.to_be_bytes()[..], &head, content].concat()).await;
    }

    pub(crate) async fn ping(&mut self, id: u32) {
        self.bytes(&control(6, 0, &id.to_be_bytes())).await;
    }

    pub(crate) async fn reset(&mut self, stream: u32) {
        self.bytes(&control(3, 0, &[stream.to_be_bytes(), 5_u32.to_be_bytes()].concat())).await;
    }
}
