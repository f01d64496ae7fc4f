//! The streams of exec and attach over SPDY: each says by a header which one it is, and they come
//! in any order.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Ends;
use crate::limits::Limits;
use crate::negotiate::Version;
use crate::session::Wanted;
use crate::spdy::{self, Connection, Stream};

/// Streams until now.
#[derive(Default)]
struct Parts {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    error: Option<Stream>,
    resize: Option<Stream>,
}

impl Parts {
    /// Keeps a stream. One of another type, or a second of a type, is left to itself, as others
    /// do: what comes on it is thrown away.
    fn take(&mut self, stream: Stream) {
        let place = match stream.headers.get("streamtype") {
            Some("stdin") => &mut self.stdin,
            Some("stdout") => &mut self.stdout,
            Some("stderr") => &mut self.stderr,
            Some("error") => &mut self.error,
            Some("resize") => &mut self.resize,
            _ => return,
        };
        place.get_or_insert(stream);
    }

    /// Whether all that the session needs is there.
    fn complete(&self, wanted: Wanted, version: Version) -> bool {
        let sized = wanted.terminal && version >= Version::V3;
        let needed = [
            (true, &self.error),
            (wanted.stdin, &self.stdin),
            (wanted.stdout, &self.stdout),
            (wanted.stderr, &self.stderr),
            (sized, &self.resize),
        ];
        needed.iter().all(|(needed, stream)| !needed || stream.is_some())
    }
}

/// Waits for the streams; none if the client does not bring them.
pub(super) async fn ends<S>(
    socket: S,
    version: Version,
    wanted: Wanted,
    limits: &Limits,
    stop: &CancellationToken,
) -> Option<Ends>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let Connection { carrier, mut opened } = spdy::serve(socket, limits, |_| true);
    let mut parts = Parts::default();
    let gather = async {
        while !parts.complete(wanted, version) {
            parts.take(opened.recv().await?);
        }
        Some(())
    };
    let gathered = stop.run_until_cancelled(timeout(limits.creation, gather)).await;
    // From here on the client can open no more.
    drop(opened);
    if !matches!(gathered, Some(Ok(Some(())))) {
        log::info!("streaming: a client did not open the streams of its session");
        carrier.close(limits.linger).await;
        return None;
    }
    let error = parts.error?.output;
    let mut stdin = parts.stdin.filter(|_| wanted.stdin);
    if let Some(stdin) = stdin.as_mut().filter(|_| version == Version::V1) {
        // As the servers of that version do. A client that has gone needs it no more.
        let _gone = stdin.output.shutdown().await;
    }
    Some(Ends {
        carrier,
        version,
        stdin: stdin.map(|stream| stream.input),
        stdout: parts.stdout.filter(|_| wanted.stdout).map(|stream| stream.output),
        stderr: parts.stderr.filter(|_| wanted.stderr).map(|stream| stream.output),
        error,
        resize: parts.resize.filter(|_| version >= Version::V3).map(|stream| stream.input),
    })
}
