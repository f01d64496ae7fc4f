//! Port-forwarding: connections to ports of a pod. Each has two streams of the client, one for
//! data and one for an error's text.

mod spdy;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::carrier::{Outgoing, framed};
use crate::limits::Limits;
use crate::negotiate::Carried;
use crate::session::PortForward;
use crate::streams::{Input, Output};
use crate::websocket::{self, Channels, Coding};

/// Bytes that are copied at once, to the client.
const PIECE: usize = 32 << 10;

/// Serves one client, to the end.
pub(crate) async fn serve<S>(
    socket: S,
    carried: Carried,
    forward: PortForward,
    limits: &Limits,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match carried {
        Carried::Spdy(_) => spdy::serve(socket, forward, limits, stop).await,
        Carried::Tunnel => {
            let socket = websocket::tunnel(socket, limits).await;
            spdy::serve(socket, forward, limits, stop).await;
        }
        Carried::Channels(_, coding) => channels(socket, coding, forward, limits, stop).await,
    }
}

/// Channels over a WebSocket: twice as many as ports, `2 n` for the data of port `n` of the list,
/// `2 n + 1` for its error. Each begins with the port, as two bytes, the low one first.
async fn channels<S>(
    socket: S,
    coding: Coding,
    forward: PortForward,
    limits: &Limits,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inputs: Vec<_> = forward.ports.iter().flat_map(|_| [true, false]).collect();
    let Channels { carrier, inputs } = websocket::channels(socket, limits, coding, &inputs).await;
    let mut connections = JoinSet::new();
    let inputs = inputs.into_iter().flatten();
    for (data, (port, input)) in (0..).step_by(2).zip(forward.ports.iter().copied().zip(inputs)) {
        for stream in [data, data + 1] {
            let bytes = framed(&port.to_le_bytes());
            carrier.send(Outgoing::Data { stream, bytes }).await;
        }
        let output = carrier.output(data);
        let mut error = carrier.output(data + 1);
        let forward = forward.clone();
        connections.spawn(async move {
            if let Err(text) = connect(&forward, port, input, output, false).await {
                // A client that has gone needs no text.
                let _gone = error.write_all(text.as_bytes()).await;
            }
        });
    }
    let signals = carrier.signals().clone();
    let all = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = signals.gone.cancelled() => {}
        () = stop.cancelled() => {}
    }
    drop(connections);
    carrier.close(limits.linger).await;
}

/// One connection: its data in both directions. With `half_close` the client says when it has no
/// more data, and the connection lasts until both have none; else until the port has none.
async fn connect(
    forward: &PortForward,
    port: u16,
    input: Input,
    output: Output,
    half_close: bool,
) -> Result<(), String> {
    let failed = |error: &str| {
        let pod = &forward.pod;
        let text = format!("error forwarding port {port} to pod {pod}, uid : {error}");
        log::info!("streaming: {}", text.escape_debug());
        text
    };
    let connected = (forward.connect)(port).await.map_err(|error| failed(&error))?;
    let (from_port, to_port) = split(connected);
    let back = back(from_port, output);
    let forth = forth(input, to_port);
    let done = if half_close {
        tokio::try_join!(forth, back).map(drop)
    } else {
        tokio::pin!(forth, back);
        tokio::select! {
            done = &mut back => done,
            done = &mut forth => match done {
                Ok(()) => back.await,
                error => error,
            },
        }
    };
    done.map_err(|error| failed(&error.to_string()))
}

/// From the client to the port.
async fn forth(mut input: Input, mut port: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    copy(&mut input, &mut port).await?;
    // A port that has closed already is at its end.
    let _closed = port.shutdown().await;
    Ok(())
}

/// From the port to the client.
async fn back(mut port: impl AsyncRead + Unpin, mut output: Output) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = port.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        output.write_all(piece.get(..count).unwrap_or_default()).await?;
    }
    output.shutdown().await
}
