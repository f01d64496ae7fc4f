//! Clients.

pub(crate) mod spdy;
pub(crate) mod websocket;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer's status, its headers in lower case, and the connection.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) socket: TcpStream,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// What comes behind the head, to the end of the connection.
    pub(crate) async fn text(mut self) -> String {
        let mut text = String::new();
        self.socket.read_to_string(&mut text).await.unwrap();
        text
    }
}

/// Host, port, and path of an address.
pub(crate) fn parts(url: &str) -> (&str, String) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    (host, format!("/{path}"))
}

/// Sends a request with these headers and reads the head of the answer.
pub(crate) async fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
    let (host, path) = parts(url);
    let mut socket = TcpStream::connect(host).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let lower = head.lines().map(|line| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}\n", name.to_lowercase()),
        None => format!("{line}\n"),
    });
    let answer = Answer { status, head: lower.collect(), socket };
    // Clients in Go look at the first such header only.
    let connection = if status == 101 { "Upgrade" } else { "close" };
    assert_eq!(answer.header("connection"), Some(connection), "{}", answer.head);
    answer
}
