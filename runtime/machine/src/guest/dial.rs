//! Opening a connection to a vsock port of the guest: one line each way on the Unix socket, then
//! the connection is the caller's.

use std::path::Path;
use std::time::Duration;

use api::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::patience::Patience;
use crate::socket;

/// How long the guest may take to accept.
const ACCEPT: Duration = Duration::from_secs(10);

/// Longest answer to `CONNECT`, `OK 4294967295\n` with some room.
const MAX_GREETING: usize = 32;

/// Connects to a vsock port of the guest.
pub(super) async fn dial(
    vsock: &Path,
    port: u32,
    patience: &Patience,
) -> Result<UnixStream, Error> {
    let doing = format!("connecting to port {port} of the guest");
    let spent = patience.limit(ACCEPT, greet(vsock, port)).await;
    let late = spent.in_words();
    match spent.outcome {
        Some(connected) => {
            connected.map_err(|error| Error::Unavailable(format!("{doing}: {error}")))
        }
        None => Err(Error::Unavailable(format!("{doing}: no answer for {late}"))),
    }
}

async fn greet(vsock: &Path, port: u32) -> std::io::Result<UnixStream> {
    let mut stream = socket::connect(vsock).await?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    let mut line = Vec::with_capacity(MAX_GREETING);
    // Byte by byte: what follows the line belongs to the connection's user.
    while line.last() != Some(&b'\n') {
        if line.len() == MAX_GREETING {
            return Err(std::io::Error::other("answer too long"));
        }
        match stream.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
            }
            Err(error) => return Err(error),
        }
    }
    if line.starts_with(b"OK ") {
        Ok(stream)
    } else {
        Err(std::io::Error::other(format!(
            "unexpected answer {:?}",
            String::from_utf8_lossy(&line)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &'static [u8]) -> Result<UnixStream, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vsock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut line = [0; 13];
            stream.read_exact(&mut line).await.unwrap();
            assert_eq!(&line, b"CONNECT 1025\n");
            stream.write_all(answer).await.unwrap();
        });
        let dialled = dial(&path, 1025, &Patience::with(Vec::new())).await;
        server.await.unwrap();
        dialled
    }

    #[tokio::test]
    async fn bytes_after_the_greeting_are_the_callers() {
        let mut stream = answered(b"OK 1073741824\nhello").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    }

    #[tokio::test]
    async fn refusal_and_nonsense_are_errors() {
        let refused = answered(b"").await.unwrap_err().to_string();
        assert!(refused.contains("port 1025") && refused.contains("refused"), "{refused}");
        assert!(answered(b"what\n").await.is_err());
        assert!(answered(&[b'x'; 40]).await.is_err());
    }
}
