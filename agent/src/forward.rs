//! Connections of the host to the guest's loopback: port-forwarding, see `FORWARD_PORT`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::admission::Entrance;
use crate::socket::Connection;

/// Connections at one time, as many as the host asks for at most.
const MAX_CONNECTIONS: usize = 256;

/// Bytes in flight per direction.
const BUFFER: usize = 32 << 10;

/// How long the host may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// After a failure to accept (no descriptors, no memory) others must finish before the next can.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves for ever.
pub(crate) async fn serve(entrance: Entrance) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match entrance.accept().await {
            Ok(connection) => {
                tokio::spawn(serve_one(connection, permit));
            }
            Err(error) => {
                log::warn!("accept a forwarded connection: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve_one(connection: Connection, _room: OwnedSemaphorePermit) {
    if let Err(error) = carry(connection).await {
        log::debug!("forwarded connection: {error}");
    }
}

/// Carries one connection until both sides have ended it, or until one breaks.
async fn carry(mut host: Connection) -> io::Result<()> {
    let mut wanted = [0; 4];
    timeout(PATIENCE, host.read_exact(&mut wanted)).await??;
    let [low, high, family, _] = wanted;
    let mut service = match connect(u16::from_le_bytes([low, high]), family).await {
        Ok(service) => service,
        Err(error) => {
            let errno = error.raw_os_error().and_then(|errno| u8::try_from(errno).ok());
            let refused = u8::try_from(libc::ECONNREFUSED).unwrap_or(u8::MAX);
            return host.write_all(&[errno.unwrap_or(refused)]).await;
        }
    };
    // As at the host's end: each hop that gathers would make the sender wait.
    service.set_nodelay(true)?;
    host.write_all(&[0]).await?;
    copy_bidirectional_with_sizes(&mut host, &mut service, BUFFER, BUFFER).await?;
    Ok(())
}

/// Dials the loopback of the wanted family, then the other's. The answer to the first tells more.
async fn connect(port: u16, family: u8) -> io::Result<TcpStream> {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let (first, second) = if family == 6 { (v6, v4) } else { (v4, v6) };
    match TcpStream::connect(SocketAddr::new(first, port)).await {
        Ok(service) => Ok(service),
        Err(error) => TcpStream::connect(SocketAddr::new(second, port)).await.map_err(|_| error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;
    use crate::socket::Listener;
    use tokio::net::{TcpListener, UnixStream};

    async fn dial(port: u16, family: u8) -> (tempfile::TempDir, UnixStream) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("forward.sock");
        let admission = Arc::new(Admission::default());
        admission.configure().unwrap().configured();
        tokio::spawn(serve(Entrance::new(Listener::unix(&path).unwrap(), &admission)));
        let mut host = UnixStream::connect(&path).await.unwrap();
        let [low, high] = port.to_le_bytes();
        host.write_all(&[low, high, family, 0]).await.unwrap();
        (dir, host)
    }

    #[tokio::test]
    async fn bytes_flow_both_ways_and_each_way_ends_by_itself() {
        for (address, family) in [("127.0.0.1:0", 4), ("[::1]:0", 6), ("127.0.0.1:0", 6)] {
            let service = TcpListener::bind(address).await.unwrap();
            let port = service.local_addr().unwrap().port();
            let (_dir, mut host) = dial(port, family).await;
            let (mut stream, _) = service.accept().await.unwrap();
            assert_eq!(host.read_u8().await.unwrap(), 0);
            host.write_all(b"question").await.unwrap();
            host.shutdown().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "question");
            stream.write_all(b"answer").await.unwrap();
            drop(stream);
            let mut text = String::new();
            host.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "answer");
        }
    }

    #[tokio::test]
    async fn refusal_is_told_with_its_number() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let (_dir, mut host) = dial(port, 4).await;
        assert_eq!(i32::from(host.read_u8().await.unwrap()), libc::ECONNREFUSED);
        assert!(host.read_u8().await.is_err(), "the end");
    }
}
