//! Clients that mean harm.

use std::time::Duration;

use futures::SinkExt;
use streaming::{Limits, Session};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::clients::spdy::{Frame, control};
use crate::clients::{spdy, websocket};
use crate::exec::ALL;
use crate::life::none_left;
use crate::{server, soon};

/// Code that runs as long as its client is there.
fn session() -> Session {
    Session::exec(ALL, async |streams| {
        let _streams = streams;
        std::future::pending().await
    })
    .unwrap()
}

fn limits() -> Limits {
    Limits { detach: Duration::ZERO, streams: 8, ..Limits::default() }
}

#[tokio::test]
async fn headers_that_inflate_to_much_end_the_connection() {
    let server = server(limits()).await;
    let url = server.url(session()).unwrap();
    let mut client = spdy::connect(&url, "v4.channel.k8s.io").await;
    // 16 MiB in about 16 KiB.
    let bomb = client.writer.block(&[("x", &"y".repeat(16 << 20))]);
    assert!(bomb.len() < 64 << 10, "{} bytes", bomb.len());
    let content = [&1_u32.to_be_bytes()[..], &[0; 6], &bomb].concat();
    client.writer.bytes(&control(1, 0, &content)).await;
    assert_eq!(soon(client.reader.next()).await, None);
    none_left(&server).await;
}

#[tokio::test]
async fn nonsense_ends_the_connection() {
    let server = server(limits()).await;
    let too_long = [0x80, 3, 0, 1, 0, 2, 0, 0];
    let garbage = control(1, 0, &[&1_u32.to_be_bytes()[..], &[0; 6], b"not compressed"].concat());
    for bytes in [&[0x80, 2, 0, 1, 0, 0, 0, 0][..], &too_long, &garbage, &[0; 8]] {
        let url = server.url(session()).unwrap();
        let mut client = spdy::connect(&url, "v4.channel.k8s.io").await;
        client.writer.bytes(bytes).await;
        assert_eq!(soon(client.reader.next()).await, None, "{bytes:?}");
    }
    none_left(&server).await;
}

#[tokio::test]
async fn streams_have_a_limit() {
    let server = server(limits()).await;
    let url = server.url(session()).unwrap();
    let mut client = spdy::connect(&url, "v4.channel.k8s.io").await;
    // Those of an unknown type are left to themselves, and take no place.
    for number in 0..100 {
        client.open(2 * number + 1, "nonsense").await;
    }
    client.writer.open(2, &[("streamtype", "error")]).await;
    assert_eq!(client.reader.next().await, Some(Frame::Reset { stream: 2, reason: 1 }));
    client.writer.open(7, &[("streamtype", "error")]).await;
    assert_eq!(client.reader.next().await, Some(Frame::Reset { stream: 7, reason: 1 }));
    // Forwarded connections take some, as long as they wait for their second stream.
    let connect = async |_| Err::<tokio::io::DuplexStream, _>(String::new());
    let url = server.url(Session::port_forward("pod", Vec::new(), connect).unwrap()).unwrap();
    let mut client = spdy::connect(&url, "portforward.k8s.io").await;
    for number in 0..10 {
        let id = number.to_string();
        let headers = [("port", "80"), ("streamtype", "error"), ("requestid", &id)];
        client.writer.open(2 * number + 1, &headers).await;
        let stream = 2 * number + 1;
        let expected =
            if number < 8 { Frame::Reply(stream) } else { Frame::Reset { stream, reason: 3 } };
        assert_eq!(client.reader.next().await, Some(expected));
    }
    // One that ends makes room.
    client.writer.reset(1).await;
    client.writer.reset(3).await;
}

#[tokio::test]
async fn client_that_asks_and_does_not_read_is_hung_up_on() {
    let server = server(limits()).await;
    let url = server.url(session()).unwrap();
    let mut client = spdy::connect(&url, "v4.channel.k8s.io").await;
    let pings = control(6, 0, &1_u32.to_be_bytes()).repeat(10_000);
    let floods = async {
        while server.sessions() > 0 {
            client.writer.bytes(&pings).await;
        }
    };
    soon(floods).await;
}

#[tokio::test]
async fn message_that_is_too_long_ends_the_connection() {
    let server = server(Limits { message: 1 << 20, ..limits() }).await;
    let url = server.url(session()).unwrap();
    let answer = websocket::upgrade(&url, "v4.channel.k8s.io").await;
    let config = WebSocketConfig::default().max_write_buffer_size(usize::MAX);
    let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
    let mut socket =
        tokio_tungstenite::WebSocketStream::from_raw_socket(answer.socket, role, Some(config))
            .await;
    // The server may hang up before all is sent.
    let _gone = socket.send(Message::binary(vec![0; (1 << 20) + 1])).await;
    none_left(&server).await;

    let url = server.url(session()).unwrap();
    let mut client = websocket::connect(&url, "v5.channel.k8s.io").await;
    client.close(77).await;
    none_left(&server).await;
}
