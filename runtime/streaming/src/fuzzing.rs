//! Sessions without sockets, for a fuzzer: a client's bytes in, the server's bytes out.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, copy, duplex, split};
use tokio_util::sync::CancellationToken;

use crate::limits::Limits;
use crate::negotiate::{Carried, Version};
use crate::session::{Request, Session, Wanted};
use crate::spdy::{Blocks, syn_stream};
use crate::streams::Streams;
use crate::websocket::Coding;
use crate::{port_forward, remote_command};

/// What a client has to do with.
#[derive(Debug, Clone, Copy)]
pub enum Service {
    /// A process that repeats its input, by SPDY.
    Exec,
    /// Two ports that repeat what they get, by SPDY.
    Forward,
    /// The process, by channels; with base64 or not.
    ExecChannels(bool),
    /// The ports, by channels; with base64 or not.
    ForwardChannels(bool),
    /// The ports, by SPDY over a WebSocket.
    Tunnel,
}

/// A client's compression of headers.
#[derive(Debug)]
pub struct Client(Blocks);

impl Client {
    /// A client that has sent nothing yet.
    ///
    /// # Panics
    /// When the library refuses the dictionary.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "nothing is its default")]
    #[expect(clippy::unwrap_used, reason = "a fuzzer's")]
    pub fn new() -> Self {
        Self(Blocks::new().unwrap())
    }

    /// The frame that opens a stream.
    ///
    /// # Panics
    /// When the headers can't be compressed.
    #[expect(clippy::unwrap_used, reason = "a fuzzer's")]
    pub fn open(&mut self, stream: u32, last: bool, headers: &[(String, String)]) -> Vec<u8> {
        let block = self.0.write(&headers.iter().cloned().collect()).unwrap();
        syn_stream(stream, last, &block)
    }
}

/// A process that repeats its input on its outputs.
async fn repeat(streams: Streams) -> Result<u32, String> {
    let Streams { stdin, stdout, stderr, resize } = streams;
    let (Some(mut stdin), Some(mut stdout)) = (stdin, stdout) else {
        return Err("no streams".to_owned());
    };
    let copied = copy(&mut stdin, &mut stdout).await;
    drop(stderr);
    let columns = (*resize.borrow()).map_or(0, |size| u32::from(size.columns));
    copied.map(|_| columns).map_err(|error| error.to_string())
}

/// A port that repeats what it gets.
fn port() -> DuplexStream {
    let (near, far) = duplex(64);
    tokio::spawn(async move {
        let (mut from, mut to) = split(far);
        // Either side may be gone.
        let _end = copy(&mut from, &mut to).await;
        let _end = to.shutdown().await;
    });
    near
}

fn session(service: Service) -> Option<Session> {
    let wanted = Wanted { stdin: true, stdout: true, stderr: false, terminal: true };
    match service {
        Service::Exec | Service::ExecChannels(_) => Session::exec(wanted, repeat).ok(),
        Service::Forward | Service::ForwardChannels(_) | Service::Tunnel => {
            let connect = async |number: u16| match number % 3 {
                0 => Err("refused".to_owned()),
                _ => Ok(port()),
            };
            Session::port_forward("pod", vec![1, 3], connect).ok()
        }
    }
}

/// Serves a client that sends `bytes`, in pieces of `piece`, and goes; what it was sent.
pub async fn serve(service: Service, bytes: &[u8], piece: usize) -> Vec<u8> {
    let limits = Limits { streams: 16, stream: 512, message: 2048, ..Limits::default() };
    let stop = CancellationToken::new();
    let Some(session) = session(service) else { return Vec::new() };
    let (client, socket) = duplex(256);
    let (from, mut to) = split(client);
    let sent = async {
        for part in bytes.chunks(piece.max(1)) {
            // The server may have hung up.
            if to.write_all(part).await.is_err() {
                return;
            }
        }
        let _end = to.shutdown().await;
    };
    let coding = |base64| Carried::Channels(Version::V4, Coding { base64, close: true });
    let carried = match service {
        Service::Exec | Service::Forward => Carried::Spdy(Version::V4),
        Service::ExecChannels(base64) | Service::ForwardChannels(base64) => coding(base64),
        Service::Tunnel => Carried::Tunnel,
    };
    let served = async {
        match session.request {
            Request::RemoteCommand(command) => {
                remote_command::serve(socket, carried, command, &limits, &stop).await;
            }
            Request::PortForward(forward) => {
                port_forward::serve(socket, carried, forward, &limits, &stop).await;
            }
        }
    };
    let ((), received, ()) = tokio::join!(sent, receive(from), served);
    received
}

async fn receive(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut received = Vec::new();
    // What came counts, however it ended.
    let _end = from.read_to_end(&mut received).await;
    received
}
