//! Exec and attach: the client's streams are put together, the caller's code runs with them, and
//! its outcome goes to the error stream.
//!
//! What the code wrote comes before the status, and the status before the end of each stream. So
//! a client of version 1, which stops at the end of output, knows of a failure.

mod resize;
mod spdy;
mod status;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::carrier::{Carrier, Outgoing, Signals, framed};
use crate::limits::Limits;
use crate::negotiate::{Carried, Version};
use crate::session::{RemoteCommand, Verb, Wanted};
use crate::streams::{Input, Output, Streams};
use crate::websocket::{self, Channels, Coding};

/// Numbers of channels over a WebSocket.
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const ERROR: u32 = 3;

/// What a client brought for a process.
struct Ends {
    carrier: Carrier,
    version: Version,
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    error: Output,
    resize: Option<Input>,
}

/// Serves one client, to the end.
pub(crate) async fn serve<S>(
    socket: S,
    carried: Carried,
    command: RemoteCommand,
    limits: &Limits,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ends = match carried {
        Carried::Spdy(version) => spdy::ends(socket, version, command.wanted, limits, stop).await,
        Carried::Channels(version, coding) => {
            Some(channels(socket, version, coding, command.wanted, limits).await)
        }
        // No client is offered that.
        Carried::Tunnel => None,
    };
    if let Some(ends) = ends {
        ends.run(command, limits, stop).await;
    }
}

/// The channels of a WebSocket are all there from the start.
async fn channels<S>(
    socket: S,
    version: Version,
    coding: Coding,
    wanted: Wanted,
    limits: &Limits,
) -> Ends
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inputs = [wanted.stdin, false, false, false, true];
    let Channels { carrier, inputs } = websocket::channels(socket, limits, coding, &inputs).await;
    let [stdin, _, _, _, resize] = <[_; 5]>::try_from(inputs).unwrap_or_default();
    let first = match wanted {
        Wanted { stdout: true, .. } => STDOUT,
        Wanted { stderr: true, .. } => STDERR,
        _ => ERROR,
    };
    // So that the client knows that the connection is up.
    carrier.send(Outgoing::Data { stream: first, bytes: framed(&[]) }).await;
    let stdout = wanted.stdout.then(|| carrier.output(STDOUT));
    let stderr = wanted.stderr.then(|| carrier.output(STDERR));
    let error = carrier.output(ERROR);
    Ends { carrier, version, stdin, stdout, stderr, error, resize }
}

impl Ends {
    /// Runs the caller's code and tells the client of its outcome.
    async fn run(mut self, command: RemoteCommand, limits: &Limits, stop: &CancellationToken) {
        let RemoteCommand { verb, wanted, run } = command;
        let (sizes, mut resize) = watch::channel(None);
        let follows = self.resize.take().map(|input| tokio::spawn(resize::follow(input, sizes)));
        let _follows = follows.map(AbortOnDropHandle::new);
        if wanted.terminal && self.version >= Version::V3 {
            // A client that tells no size, or no more, is served all the same.
            let _told = timeout(limits.first_size, resize.wait_for(Option::is_some)).await;
        }
        let mut outputs: Vec<_> =
            [&self.stdout, &self.stderr].into_iter().flatten().map(Output::twin).collect();
        let streams = Streams {
            stdin: self.stdin.take(),
            stdout: self.stdout.take(),
            stderr: self.stderr.take(),
            resize,
        };
        let outcome = supervise(run(streams), self.carrier.signals(), limits, stop).await;
        let outcome =
            outcome.unwrap_or_else(|| Err("the streaming server is shutting down".into()));
        if let Err(error) = &outcome {
            log::info!("streaming: {}: {}", doing(verb), printable(error));
        }
        let status = status::of(&outcome, doing(verb), self.version);
        // A client that has gone needs no status.
        let _gone = self.error.write_all(&status).await;
        outputs.insert(0, self.error);
        for output in &mut outputs {
            let _gone = output.shutdown().await;
        }
        self.carrier.close(limits.linger).await;
    }
}

/// A text of others for the log: one line, of at most 512 characters.
fn printable(text: &str) -> String {
    text.chars().take(512).flat_map(char::escape_debug).collect()
}

fn doing(verb: Verb) -> &'static str {
    match verb {
        Verb::Exec => "error executing command in container",
        Verb::Attach => "error attaching to container",
    }
}

/// Waits for the outcome. Once the client has gone, or the server is to stop, input has ended, and
/// the code has some time left.
async fn supervise<T>(
    run: impl Future<Output = T>,
    signals: &Signals,
    limits: &Limits,
    stop: &CancellationToken,
) -> Option<T> {
    tokio::pin!(run);
    tokio::select! {
        outcome = &mut run => return Some(outcome),
        () = signals.gone.cancelled() => {}
        () = stop.cancelled() => {}
    }
    signals.deaf.cancel();
    timeout(limits.detach, run).await.ok()
}
