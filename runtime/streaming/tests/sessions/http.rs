//! Requests that begin no session.

use std::time::Duration;

use streaming::{Error, Limits, Listeners, Server, Session, Wanted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use crate::clients::{parts, request, spdy, websocket};
use crate::{server, soon};

fn nothing() -> Session {
    let wanted = Wanted { stdout: true, ..Wanted::default() };
    Session::exec(wanted, async |_| Ok(0)).unwrap()
}

#[tokio::test]
async fn token_is_good_once() {
    let server = server(Limits::default()).await;
    let url = server.url(nothing()).unwrap();
    let wrong = url.replace("/exec/", "/exec/0");
    let answer = spdy::upgrade(&wrong, "v4.channel.k8s.io").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.text().await, "404 page not found\n");
    drop(websocket::connect(&url, "v4.channel.k8s.io").await);
    assert_eq!(websocket::upgrade(&url, "v4.channel.k8s.io").await.status, 404);
    // Not even by another name.
    let url = server.url(nothing()).unwrap();
    assert_eq!(
        spdy::upgrade(&url.replace("exec", "attach"), "v4.channel.k8s.io").await.status,
        404
    );
    assert_eq!(spdy::upgrade(&url, "v4.channel.k8s.io").await.status, 404);
}

#[tokio::test]
async fn request_that_can_not_be_served_is_told_why() {
    let server = server(Limits::default()).await;
    let url = || server.url(nothing()).unwrap();
    let answer = spdy::upgrade(&url(), "v5.channel.k8s.io").await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("x-accepted-stream-protocol-versions"), Some("v4.channel.k8s.io"));
    assert!(answer.text().await.contains("unable to negotiate protocol"));
    assert_eq!(websocket::upgrade(&url(), "v9.channel.k8s.io").await.status, 403);
    assert_eq!(request("GET", &url(), &[]).await.status, 400);
    assert_eq!(request("PUT", &url(), &[]).await.status, 405);
    let upgrade = [("Connection", "upgrade"), ("Upgrade", "websocket")];
    assert_eq!(request("GET", &url(), &upgrade).await.status, 400);
    let url = url();
    let (host, _) = parts(&url);
    for path in ["", "exec", "exec/", "exec/x/y", "%00"] {
        assert_eq!(request("GET", &format!("http://{host}/{path}"), &[]).await.status, 404);
    }
}

#[tokio::test]
async fn what_is_asked_for_is_checked() {
    let code = async |_| Ok(0);
    let both = Wanted { stdout: true, stderr: true, terminal: true, stdin: false };
    assert!(matches!(Session::exec(both, code), Err(Error::TerminalWithStderr)));
    let none = Wanted { terminal: true, ..Wanted::default() };
    assert!(matches!(Session::attach(none, code), Err(Error::NoStreams)));
    let connect = async |_| Err::<TcpStream, _>(String::new());
    let ports = Session::port_forward("pod", vec![1; 128], connect);
    assert!(matches!(ports, Err(Error::TooManyPorts(128))));
}

#[tokio::test]
async fn sessions_and_addresses_have_a_limit() {
    let limits = Limits { sessions: 1, tokens: 3, ..Limits::default() };
    let server = server(limits).await;
    let [first, second, third] = [(); 3].map(|()| server.url(nothing()).unwrap());
    assert!(matches!(server.url(nothing()), Err(Error::TooManyWaiting)));
    let client = spdy::connect(&first, "v4.channel.k8s.io").await;
    assert_eq!(server.sessions(), 1);
    assert_eq!(spdy::upgrade(&second, "v4.channel.k8s.io").await.status, 429);
    drop(client);
    soon(async {
        while server.sessions() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    spdy::connect(&third, "v4.channel.k8s.io").await;
}

#[tokio::test]
async fn client_without_a_request_is_hung_up_on() {
    let handshake = Duration::from_millis(50);
    let server = server(Limits { handshakes: 1, handshake, ..Limits::default() }).await;
    let url = server.url(nothing()).unwrap();
    let (host, _) = parts(&url);
    let mut silent = TcpStream::connect(host).await.unwrap();
    let mut slow = TcpStream::connect(host).await.unwrap();
    slow.write_all(b"GET /exec/").await.unwrap();
    for socket in [&mut silent, &mut slow] {
        // The end, or a reset, if what was sent was not read.
        let _end = soon(socket.read_to_end(&mut Vec::new())).await;
    }
    // And they held up nobody for longer.
    soon(websocket::connect(&url, "v4.channel.k8s.io")).await;
}

#[tokio::test]
async fn head_without_end_is_refused() {
    let server = server(Limits::default()).await;
    let url = server.url(nothing()).unwrap();
    let mut socket = TcpStream::connect(parts(&url).0).await.unwrap();
    socket.write_all(b"GET /x HTTP/1.1\r\n").await.unwrap();
    let sent = async { while socket.write_all(&[b'x'; 1024]).await.is_ok() {} };
    soon(sent).await;
}

#[tokio::test]
async fn unix_socket_serves_the_same_paths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streaming.sock");
    let unix = Some(UnixListener::bind(&path).unwrap());
    let server = Server::start(Listeners { tcp: None, unix }, Limits::default()).unwrap();
    let url = server.url(nothing()).unwrap();
    let (host, token) = parts(&url);
    assert_eq!(host, "localhost");
    let mut socket = UnixStream::connect(&path).await.unwrap();
    let text = format!(
        "POST {token} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
    );
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
}
