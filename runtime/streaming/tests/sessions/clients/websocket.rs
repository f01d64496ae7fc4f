//! A client of channels over a WebSocket.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Answer, request};

/// The example of RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
    base64: bool,
}

/// Upgrades to a WebSocket and offers `protocols`, if any.
pub(crate) async fn upgrade(url: &str, protocols: &str) -> Answer {
    let mut headers = vec![
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", KEY),
    ];
    if !protocols.is_empty() {
        headers.push(("Sec-WebSocket-Protocol", protocols));
    }
    request("GET", url, &headers).await
}

/// The connection after an upgrade to this protocol.
pub(crate) async fn socket(url: &str, protocol: &str) -> WebSocketStream<TcpStream> {
    let answer = upgrade(url, protocol).await;
    assert_eq!(answer.status, 101, "{}", answer.head);
    assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
    let agreed = (!protocol.is_empty()).then_some(protocol);
    assert_eq!(answer.header("sec-websocket-protocol"), agreed);
    WebSocketStream::from_raw_socket(answer.socket, Role::Client, None).await
}

/// A connection with this protocol.
pub(crate) async fn connect(url: &str, protocol: &str) -> Client {
    Client { socket: socket(url, protocol).await, base64: protocol.contains("base64") }
}

impl Client {
    pub(crate) async fn send(&mut self, channel: u8, content: &[u8]) {
        let message = if self.base64 {
            Message::text(format!("{channel}{}", BASE64_STANDARD.encode(content)))
        } else {
            Message::binary([&[channel], content].concat())
        };
        self.socket.send(message).await.unwrap();
    }

    /// Closes a channel, with version 5.
    pub(crate) async fn close(&mut self, channel: u8) {
        self.socket.send(Message::binary(vec![255, channel])).await.unwrap();
    }

    /// The next message of a channel; none after a normal end.
    pub(crate) async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.socket.next().await.expect("no end was said").expect("a message") {
                Message::Binary(bytes) => {
                    assert!(!self.base64);
                    return Some((bytes[0], bytes[1..].to_vec()));
                }
                Message::Text(text) => {
                    assert!(self.base64);
                    let (channel, content) = text.as_bytes().split_first().unwrap();
                    return Some((channel - b'0', BASE64_STANDARD.decode(content).unwrap()));
                }
                Message::Close(frame) => {
                    assert_eq!(u16::from(frame.unwrap().code), 1000);
                    return None;
                }
                _ => {}
            }
        }
    }

    /// All content of the first four channels, to the end.
    pub(crate) async fn contents(mut self) -> [Vec<u8>; 4] {
        let mut all = [const { Vec::new() }; 4];
        while let Some((channel, content)) = self.receive().await {
            all[usize::from(channel)].extend(content);
        }
        all
    }

    /// The same, as text.
    pub(crate) async fn finish(self) -> [String; 4] {
        self.contents().await.map(|bytes| String::from_utf8(bytes).unwrap())
    }
}
