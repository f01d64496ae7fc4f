//! Port-forwarding over SPDY: for each connection the client opens a stream of data and one for
//! errors, which belong together by the header `requestID`.

use std::collections::HashMap;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connect;
use crate::limits::Limits;
use crate::session::PortForward;
use crate::spdy::{self, Connection, Headers, Stream};

/// The port that a stream is for; none if its headers are not those of a forwarded connection.
fn port(headers: &Headers) -> Option<u16> {
    let known = matches!(headers.get("streamtype"), Some("data" | "error"));
    let port = headers.get("port")?.parse().ok()?;
    (known && port > 0).then_some(port)
}

fn is_error(stream: &Stream) -> bool {
    stream.headers.get("streamtype") == Some("error")
}

/// What the two streams of a connection have in common. Clients before Kubernetes 1.1 do not say
/// it; their stream of data comes right behind that of errors.
fn request(stream: &Stream) -> String {
    let named = stream.headers.get("requestid").filter(|name| !name.is_empty());
    let first = if is_error(stream) { stream.id } else { stream.id.wrapping_sub(2) };
    named.map_or_else(|| first.to_string(), str::to_owned)
}

/// A stream without the other one.
struct Waiting {
    stream: Stream,
    until: Instant,
}

/// Serves one client, to the end.
pub(super) async fn serve<S>(
    socket: S,
    forward: PortForward,
    limits: &Limits,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let accepts = |headers: &Headers| port(headers).is_some();
    let Connection { carrier, mut opened } = spdy::serve(socket, limits, accepts);
    let mut waiting: HashMap<String, Waiting> = HashMap::new();
    let mut connections = JoinSet::new();
    loop {
        let next = waiting.values().map(|one| one.until).min();
        let expired = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            stream = opened.recv() => match stream {
                Some(stream) => {
                    let pair = pair(stream, &mut waiting, limits).await;
                    if let Some([data, error]) = pair {
                        connections.spawn(connection(forward.clone(), data, error));
                    }
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
            () = expired => expire(&mut waiting).await,
            () = stop.cancelled() => break,
        }
    }
    drop((connections, waiting, opened));
    carrier.close(limits.linger).await;
}

/// Puts a stream to the one that it belongs to: first that of data, then that of errors.
async fn pair(
    stream: Stream,
    waiting: &mut HashMap<String, Waiting>,
    limits: &Limits,
) -> Option<[Stream; 2]> {
    let request = request(&stream);
    match waiting.remove(&request) {
        None => {
            let until = Instant::now() + limits.creation;
            waiting.insert(request, Waiting { stream, until });
            None
        }
        Some(first) if is_error(&first.stream) == is_error(&stream) => {
            let kind = if is_error(&stream) { "error" } else { "data" };
            let text = format!(
                "error processing stream for request {request}: {kind} stream already assigned"
            );
            refuse([first.stream, stream], &text).await;
            None
        }
        Some(Waiting { stream: first, .. }) if is_error(&first) => Some([stream, first]),
        Some(Waiting { stream: first, .. }) => Some([first, stream]),
    }
}

/// Tells streams that there is no connection for them.
async fn refuse(streams: impl IntoIterator<Item = Stream>, text: &str) {
    for mut stream in streams {
        if is_error(&stream) {
            // A client that has gone needs no text.
            let _gone = stream.output.write_all(text.as_bytes()).await;
            let _gone = stream.output.shutdown().await;
        } else {
            stream.output.reset().await;
        }
    }
}

async fn expire(waiting: &mut HashMap<String, Waiting>) {
    let now = Instant::now();
    let late = waiting.extract_if(|_, one| one.until <= now);
    for (request, one) in late.collect::<Vec<_>>() {
        let text = format!("request {}: timed out waiting for streams", request.escape_debug());
        refuse([one.stream], &text).await;
    }
}

/// One connection, until both sides have said their end, or the client does not want it any more.
async fn connection(forward: PortForward, data: Stream, mut error: Stream) {
    let Some(port) = port(&data.headers) else { return };
    let Stream { input, output, reset, .. } = data;
    let mut twin = output.twin();
    let done = connect(&forward, port, input, output, true);
    if let Some(Err(text)) = reset.run_until_cancelled(done).await {
        // A client that has gone needs no text.
        let _gone = error.output.write_all(text.as_bytes()).await;
        twin.reset().await;
    }
    let _gone = error.output.shutdown().await;
}
