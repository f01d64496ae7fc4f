//! Port-forwarding, by each protocol.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use streaming::{Limits, Server, Session};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_util::io::StreamReader;

use crate::clients::spdy::Frame;
use crate::clients::{spdy, websocket};
use crate::life::none_left;
use crate::{server, soon};

const PORT: &str = "portforward.k8s.io";

/// A port that repeats what it gets, to its end.
async fn repeater() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.unwrap();
                to.write_all(b" and no more").await.unwrap();
            });
        }
    });
    port
}

fn session(ports: Vec<u16>) -> Session {
    Session::port_forward("pod-1", ports, async |port| {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        stream.map_err(|error| format!("failed to connect to localhost:{port}: {error}"))
    })
    .unwrap()
}

/// A port where nobody listens.
async fn closed() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Opens the two streams of a connection: `first` for errors, the next for data.
async fn pair<S: tokio::io::AsyncRead + AsyncWrite>(
    client: &mut spdy::Client<S>,
    first: u32,
    port: u16,
) {
    let (port, request) = (port.to_string(), first.to_string());
    for (stream, kind) in [(first, "error"), (first + 2, "data")] {
        let headers = [("streamtype", kind), ("port", &port), ("requestid", &request)];
        client.open_with(stream, &headers).await;
    }
}

/// Reads until all these streams have ended.
async fn until_ended<S: tokio::io::AsyncRead>(
    reader: &mut spdy::Reader<S>,
    streams: &[u32],
) -> spdy::Received {
    let mut received = spdy::Received::default();
    while !streams.iter().all(|stream| received.ended.contains(stream)) {
        received.add(soon(reader.next()).await.expect("the end"));
    }
    received
}

async fn client(server: &Server) -> spdy::Client<TcpStream> {
    spdy::connect(&server.url(session(Vec::new())).unwrap(), PORT).await
}

#[tokio::test]
async fn connections_end_by_half() {
    let server = server(Limits::default()).await;
    let port = repeater().await;
    let mut client = client(&server).await;
    pair(&mut client, 1, port).await;
    client.writer.data(3, false, b"hello").await;
    client.until(3, "hello").await;
    client.writer.data(3, true, b" again").await;
    let received = until_ended(&mut client.reader, &[1, 3]).await;
    assert_eq!(received.text(3), " again and no more");
    assert_eq!(received.text(1), "");
    drop(client);
    none_left(&server).await;
}

#[tokio::test]
async fn many_connections_at_once() {
    let server = server(Limits::default()).await;
    let port = repeater().await;
    let mut client = client(&server).await;
    let streams: Vec<u32> = (0..200).map(|number| 4 * number + 1).collect();
    for first in &streams {
        pair(&mut client, *first, port).await;
    }
    for first in &streams {
        client.writer.data(first + 2, true, first.to_string().as_bytes()).await;
    }
    let all: Vec<_> = streams.iter().flat_map(|first| [*first, first + 2]).collect();
    let received = until_ended(&mut client.reader, &all).await;
    for first in &streams {
        assert_eq!(received.text(first + 2), format!("{first} and no more"));
    }
    // All places are free again.
    for number in 0..200 {
        let first = 10_001 + 4 * number;
        pair(&mut client, first, port).await;
        client.writer.data(first + 2, true, b"").await;
        until_ended(&mut client.reader, &[first, first + 2]).await;
    }
}

#[tokio::test]
async fn refused_connection_is_told_and_ends_no_other() {
    let server = server(Limits::default()).await;
    let (port, nobody) = (repeater().await, closed().await);
    let mut client = client(&server).await;
    pair(&mut client, 1, port).await;
    // More often than there are places for streams: each is given back.
    for number in 0..600 {
        let first = 5 + 4 * number;
        pair(&mut client, first, nobody).await;
        let received = until_ended(&mut client.reader, &[first]).await;
        let start = format!(
            "error forwarding port {nobody} to pod pod-1, uid : failed to connect to \
             localhost:{nobody}: "
        );
        assert!(received.text(first).starts_with(&start), "{}", received.text(first));
        assert_eq!(received.reset, [first + 2]);
    }
    client.writer.data(3, true, b"still").await;
    assert_eq!(until_ended(&mut client.reader, &[1, 3]).await.text(3), "still and no more");
}

#[tokio::test]
async fn client_that_resets_a_stream_ends_its_connection() {
    let server = server(Limits::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = client(&server).await;
    pair(&mut client, 1, listener.local_addr().unwrap().port()).await;
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    client.writer.reset(3).await;
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap(), 0);
    until_ended(&mut client.reader, &[1]).await;
    // A client that goes ends all of them.
    pair(&mut client, 5, listener.local_addr().unwrap().port()).await;
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    drop(client);
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap(), 0);
    none_left(&server).await;
}

#[tokio::test]
async fn streams_need_a_port_a_type_and_each_other() {
    let server = server(Limits { creation: Duration::from_millis(50), ..Limits::default() }).await;
    let port = repeater().await.to_string();
    let mut client = client(&server).await;
    for (number, headers) in [
        vec![("streamtype", "data")],
        vec![("port", "0"), ("streamtype", "data")],
        vec![("port", "65536"), ("streamtype", "data")],
        vec![("port", &port)],
        vec![("port", &port), ("streamtype", "stdin")],
    ]
    .into_iter()
    .enumerate()
    {
        let stream = 2 * u32::try_from(number).unwrap() + 1;
        client.writer.open(stream, &headers).await;
        assert_eq!(client.reader.next().await, Some(Frame::Reset { stream, reason: 3 }));
    }
    // The first clients do not say which streams belong together.
    let old = |kind| [("port", port.clone()), ("streamtype", kind)];
    for (stream, kind) in [(101, "error"), (103, "data")] {
        let headers = old(kind.to_owned());
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        client.open_with(stream, &headers).await;
    }
    client.writer.data(103, true, b"old").await;
    let received = until_ended(&mut client.reader, &[101, 103]).await;
    assert_eq!(received.text(103), "old and no more");
    // One that stays alone is told so.
    let alone = [("port", port.as_str()), ("streamtype", "error"), ("requestid", "7")];
    client.open_with(201, &alone).await;
    let received = until_ended(&mut client.reader, &[201]).await;
    assert_eq!(received.text(201), "request 7: timed out waiting for streams");
}

#[tokio::test]
async fn channels_carry_two_ports() {
    let server = server(Limits::default()).await;
    let ports = [repeater().await, closed().await];
    for (protocol, query) in
        [("v4.channel.k8s.io", false), ("v4.base64.channel.k8s.io", true), ("", false)]
    {
        let named = if query { Vec::new() } else { ports.to_vec() };
        let mut url = server.url(session(named)).unwrap();
        if query {
            url.push_str(&format!("?port={},{}", ports[0], ports[1]));
        }
        let mut client = websocket::connect(&url, protocol).await;
        let mut content: [Vec<u8>; 4] = Default::default();
        client.send(0, b"hello").await;
        while !content[0].ends_with(b"hello") || !content[3].ends_with(b")") {
            let (channel, bytes) = soon(client.receive()).await.expect("the end");
            content[usize::from(channel)].extend(bytes);
        }
        let number = |port: u16| port.to_le_bytes().to_vec();
        assert_eq!(content[0], [number(ports[0]), b"hello".to_vec()].concat());
        assert_eq!(content[1], number(ports[0]));
        assert_eq!(content[2], number(ports[1]));
        let error = String::from_utf8_lossy(&content[3][2..]).into_owned();
        assert!(
            error.starts_with(&format!("error forwarding port {} to pod", ports[1])),
            "{error}"
        );
    }
    for query in ["", "?port=", "?port=0", "?port=1,x", &format!("?port=1{}", ",1".repeat(127))] {
        let url = server.url(session(Vec::new())).unwrap() + query;
        assert_eq!(websocket::upgrade(&url, "v4.channel.k8s.io").await.status, 400, "{query}");
    }
    none_left(&server).await;
}

/// Makes a message of each piece that is written.
struct Messages(SplitSink<WebSocketStream<TcpStream>, Message>);

impl AsyncWrite for Messages {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.0.poll_ready_unpin(context)).map_err(io::Error::other)?;
        // Cut anywhere: a message is no frame.
        let part = &bytes[..bytes.len().min(1001)];
        self.0.start_send_unpin(Message::binary(part.to_vec())).map_err(io::Error::other)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush_unpin(context).map_err(io::Error::other)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn content(stream: SplitStream<WebSocketStream<TcpStream>>) -> impl tokio::io::AsyncRead + Unpin {
    StreamReader::new(Box::pin(stream.filter_map(async |message| match message {
        Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
        Ok(_) => None,
        Err(error) => Some(Err::<Bytes, _>(io::Error::other(error))),
    })))
}

#[tokio::test]
async fn tunnel_carries_spdy() {
    let server = server(Limits::default()).await;
    let (port, nobody) = (repeater().await, closed().await);
    let url = server.url(session(Vec::new())).unwrap();
    let (sink, stream) = websocket::socket(&url, "SPDY/3.1+portforward.k8s.io").await.split();
    let mut client = spdy::Client::new(tokio::io::join(content(stream), Messages(sink)));
    client.writer.ping(1).await;
    assert_eq!(client.reader.next().await, Some(Frame::Ping(1)));
    pair(&mut client, 1, port).await;
    let large = vec![b'x'; 300_000];
    client.writer.data(3, true, &large).await;
    let received = until_ended(&mut client.reader, &[1, 3]).await;
    assert_eq!(received.content[&3], [&large[..], b" and no more"].concat());
    pair(&mut client, 5, nobody).await;
    assert!(until_ended(&mut client.reader, &[5]).await.text(5).contains("error forwarding"));
    drop(client);
    none_left(&server).await;
}
