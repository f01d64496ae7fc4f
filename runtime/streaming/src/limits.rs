//! What bounds sessions, in number, time and memory.

use std::time::Duration;

/// Bounds of a server and its sessions.
///
/// A session takes at most 128 KiB for output that waits, and [`Limits::stream`] for each stream
/// whose input waits. Over a WebSocket comes one message, of [`Limits::message`]; by SPDY less than
/// half a MiB for the compression of headers.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sessions at the same time. A client beyond that is answered with 429.
    pub sessions: usize,
    /// Connections at the same time whose client has not yet sent its request.
    pub handshakes: usize,
    /// How long a client may take to send its request.
    pub handshake: Duration,
    /// Addresses given out and not used.
    pub tokens: usize,
    /// How long an address may wait for its client.
    pub token: Duration,
    /// How long a client may take to open the streams of a session, or of a forwarded connection.
    pub creation: Duration,
    /// How long no frame may come or go, before a session ends.
    pub idle: Duration,
    /// How long a client with a terminal may take to tell the terminal's size, before the process
    /// starts without.
    pub first_size: Duration,
    /// How long the caller's code may still run once the client has gone.
    pub detach: Duration,
    /// How long a client may take to close the connection once all was sent.
    pub linger: Duration,
    /// Streams of one connection. A stream beyond that is refused.
    pub streams: usize,
    /// Bytes of a stream's input that wait for the caller's code.
    pub stream: usize,
    /// Bytes of one message over a WebSocket.
    pub message: usize,
}

impl Default for Limits {
    /// The times of `k8s.io/cri-streaming` where it has them.
    fn default() -> Self {
        Self {
            sessions: 1024,
            handshakes: 256,
            handshake: Duration::from_secs(10),
            tokens: 1000,
            token: Duration::from_secs(60),
            creation: Duration::from_secs(30),
            idle: Duration::from_secs(4 * 60 * 60),
            first_size: Duration::from_millis(200),
            detach: Duration::from_secs(10),
            linger: Duration::from_secs(10),
            streams: 512,
            stream: 64 << 10,
            message: 4 << 20,
        }
    }
}
