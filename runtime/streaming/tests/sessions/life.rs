//! How sessions end: by the client, by time, and by the server.

use std::io::ErrorKind;
use std::time::Duration;

use futures::FutureExt;
use streaming::{Limits, Server, Session, Wanted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use crate::clients::{spdy, websocket};
use crate::exec::ALL;
use crate::{server, soon};

pub(crate) const OUTPUT: Wanted =
    Wanted { stdout: true, stdin: false, stderr: false, terminal: false };

/// Waits until no session runs.
pub(crate) async fn none_left(server: &Server) {
    soon(async {
        while server.sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A process that says "up" and then runs until its client goes. Says what it saw: the end of
/// input, and why output failed.
fn faithful(seen: oneshot::Sender<(usize, ErrorKind)>) -> Session {
    Session::exec(ALL, async |mut streams| {
        let stdout = streams.stdout.as_mut().unwrap();
        stdout.write_all(b"up").await.unwrap();
        let mut input = Vec::new();
        streams.stdin.as_mut().unwrap().read_to_end(&mut input).await.unwrap();
        let error = loop {
            if let Err(error) = stdout.write_all(&[0; 4096]).await {
                break error.kind();
            }
        };
        seen.send((input.len(), error)).unwrap();
        Ok(0)
    })
    .unwrap()
}

#[tokio::test]
async fn client_that_goes_ends_input_and_output() {
    let server = server(Limits::default()).await;
    let (tell, seen) = oneshot::channel();
    let mut client = spdy::connect(&server.url(faithful(tell)).unwrap(), "v4.channel.k8s.io").await;
    client.open_all().await;
    client.until(5, "up").await;
    client.writer.data(3, false, b"abc").await;
    drop(client);
    assert_eq!(soon(seen).await, Ok((3, ErrorKind::BrokenPipe)));
    none_left(&server).await;

    let (tell, seen) = oneshot::channel();
    let url = server.url(faithful(tell)).unwrap();
    let mut client = websocket::connect(&url, "v4.channel.k8s.io").await;
    while client.receive().await != Some((1, b"up".to_vec())) {}
    drop(client);
    assert_eq!(soon(seen).await, Ok((0, ErrorKind::BrokenPipe)));
    none_left(&server).await;
}

/// A process that never ends by itself; the sender is dropped with it.
fn eternal(alive: oneshot::Sender<()>) -> Session {
    Session::exec(OUTPUT, async |mut streams| {
        streams.stdout.as_mut().unwrap().write_all(b"up").await.unwrap();
        std::future::pending::<()>().await;
        drop(alive);
        Ok(0)
    })
    .unwrap()
}

#[tokio::test]
async fn code_is_dropped_some_time_after_its_client_went() {
    let limits = Limits { detach: Duration::from_millis(50), ..Limits::default() };
    let server = server(limits).await;
    let (alive, gone) = oneshot::channel();
    let url = server.url(eternal(alive)).unwrap();
    let mut client = websocket::connect(&url, "v5.channel.k8s.io").await;
    while client.receive().await != Some((1, b"up".to_vec())) {}
    drop(client);
    assert!(soon(gone).await.is_err());
    none_left(&server).await;
}

#[tokio::test]
async fn idle_session_ends() {
    let idle = Duration::from_millis(100);
    let limits = Limits { idle, detach: idle, ..Limits::default() };
    let server = server(limits).await;
    let (alive, gone) = oneshot::channel();
    let url = server.url(eternal(alive)).unwrap();
    let mut client = spdy::connect(&url, "v4.channel.k8s.io").await;
    client.open(1, "error").await;
    client.open(3, "stdout").await;
    client.until(3, "up").await;
    // A ping is a frame as others: so long the session lives.
    let mut gone = gone.fuse();
    let start = tokio::time::Instant::now();
    while start.elapsed() < 4 * idle {
        client.writer.ping(1).await;
        assert_eq!(client.reader.next().await, Some(spdy::Frame::Ping(1)));
        assert!((&mut gone).now_or_never().is_none());
        tokio::time::sleep(idle / 10).await;
    }
    assert!(soon(gone).await.is_err());
    assert_eq!(client.reader.next().await, None);
}

#[tokio::test]
async fn client_that_opens_no_streams_is_hung_up_on() {
    let creation = Duration::from_millis(50);
    let server = server(Limits { creation, ..Limits::default() }).await;
    let (alive, gone) = oneshot::channel();
    let url = server.url(eternal(alive)).unwrap();
    let mut client = spdy::connect(&url, "v4.channel.k8s.io").await;
    client.open(1, "error").await;
    let received = soon(client.finish()).await;
    assert!(received.said_goodbye && received.content.is_empty());
    // The code never ran.
    assert!(soon(gone).await.is_err());
    none_left(&server).await;
}

#[tokio::test]
async fn shutdown_ends_sessions_in_order() {
    let limits = Limits { linger: Duration::from_millis(100), ..Limits::default() };
    let server = server(limits).await;
    let code = async |mut streams: streaming::Streams| {
        let stdout = streams.stdout.as_mut().unwrap();
        stdout.write_all(b"up").await.unwrap();
        streams.stdin.as_mut().unwrap().read_to_end(&mut Vec::new()).await.unwrap();
        stdout.write_all(b", down").await.unwrap();
        Ok(5)
    };
    let url = server.url(Session::exec(ALL, code).unwrap()).unwrap();
    let mut client = spdy::connect(&url, "v4.channel.k8s.io").await;
    client.open_all().await;
    client.until(5, "up").await;
    let waiting = server.url(Session::exec(ALL, code).unwrap()).unwrap();
    let (received, ()) = soon(futures::future::join(client.finish(), server.shutdown())).await;
    assert_eq!(received.text(5), ", down");
    assert!(received.text(1).contains("NonZeroExitCode"));
    assert!(matches!(
        server.url(Session::exec(ALL, code).unwrap()),
        Err(streaming::Error::ShuttingDown)
    ));
    let host = crate::clients::parts(&waiting).0;
    assert!(tokio::net::TcpStream::connect(host).await.is_err());
}

#[tokio::test]
async fn shutdown_waits_for_nobody_for_ever() {
    let short = Duration::from_millis(50);
    let limits = Limits { linger: short, detach: short, ..Limits::default() };
    let server = server(limits).await;
    // One whose code does not end, and one whose client reads nothing.
    let (alive, gone) = oneshot::channel();
    let url = server.url(eternal(alive)).unwrap();
    let mut client = websocket::connect(&url, "v4.channel.k8s.io").await;
    let flood = Session::exec(OUTPUT, async |mut streams| {
        let stdout = streams.stdout.as_mut().unwrap();
        while stdout.write_all(&[0; 1 << 16]).await.is_ok() {}
        Ok(0)
    });
    let url = server.url(flood.unwrap()).unwrap();
    let _deaf = websocket::connect(&url, "v4.channel.k8s.io").await;
    while client.receive().await != Some((1, b"up".to_vec())) {}
    soon(server.shutdown()).await;
    assert!(gone.await.is_err());
    assert_eq!(server.sessions(), 0);
    let mut status = String::new();
    while let Some((channel, content)) = client.receive().await {
        assert_eq!(channel, 3);
        status.push_str(&String::from_utf8(content).unwrap());
    }
    assert!(status.contains("the streaming server is shutting down"));
}
