//! Exec and attach, by each protocol.

use std::time::Duration;

use serde_json::{Value, json};
use streaming::{Limits, Session, Size, Streams, Wanted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::clients::{spdy, websocket};
use crate::{server, soon};

pub(crate) const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, terminal: false };
const TERMINAL: Wanted = Wanted { stdin: true, stdout: true, stderr: false, terminal: true };

/// Repeats input on both outputs, and returns this.
fn repeats(outcome: Result<u32, String>) -> Session {
    Session::exec(ALL, async |mut streams| {
        let mut text = Vec::new();
        streams.stdin.take().unwrap().read_to_end(&mut text).await.unwrap();
        streams.stdout.as_mut().unwrap().write_all(&text).await.unwrap();
        streams.stderr.as_mut().unwrap().write_all(&[b"! ", &text[..]].concat()).await.unwrap();
        outcome
    })
    .unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn streams_of_spdy_come_in_any_order() {
    let server = server(Limits::default()).await;
    let url = server.url(repeats(Ok(42))).unwrap();
    let mut client = spdy::connect(&url, "v4.channel.k8s.io").await;
    // With one more than needed, of a type that nobody knows.
    for (stream, kind) in [(1, "stderr"), (3, "nonsense"), (5, "stdin"), (9, "error")] {
        client.open(stream, kind).await;
    }
    client.writer.data(3, true, b"nobody reads that").await;
    client.writer.data(5, false, b"hello, ").await;
    client.writer.ping(7).await;
    assert_eq!(client.reader.next().await, Some(spdy::Frame::Ping(7)));
    client.open(11, "stdout").await;
    client.writer.data(5, true, b"world").await;
    let received = soon(client.finish()).await;
    assert_eq!(received.text(11), "hello, world");
    assert_eq!(received.text(1), "! hello, world");
    let status = json(&received.text(9));
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0], json!({ "reason": "ExitCode", "message": "42" }));
    assert_eq!(received.ended, [9, 11, 1]);
    assert!(received.said_goodbye && received.reset.is_empty());
}

#[tokio::test]
async fn status_has_the_form_of_its_version() {
    let server = server(Limits::default()).await;
    let exit = "command terminated with non-zero exit code: exit status 3";
    let lost = "Internal error occurred: error executing command in container: no such file";
    for version in ["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"] {
        for (outcome, text) in [(Ok(0), ""), (Ok(3), exit), (Err("no such file"), lost)] {
            let url = server.url(repeats(outcome.map_err(str::to_owned))).unwrap();
            let mut client = spdy::connect(&url, version).await;
            client.open_all().await;
            client.writer.data(3, true, b"x").await;
            let received = soon(client.finish()).await;
            assert_eq!((received.text(1), received.text(5)), (text.to_owned(), "x".to_owned()));
            // Version 1 ends the server's half of input at once.
            let first = [1, 3][usize::from(version == "channel.k8s.io")];
            assert_eq!(received.ended[0], first, "{version}");
        }
    }
}

/// A terminal that tells its sizes, until input ends.
fn sized() -> Session {
    Session::exec(TERMINAL, async |streams| {
        let Streams { mut stdin, mut stdout, mut resize, .. } = streams;
        let (stdin, stdout) = (stdin.as_mut().unwrap(), stdout.as_mut().unwrap());
        let first = *resize.borrow_and_update();
        stdout.write_all(format!("{first:?}\n").as_bytes()).await.unwrap();
        let last = Some(Size { columns: 132, rows: 43 });
        resize.wait_for(|size| *size == last).await.unwrap();
        stdout.write_all(b"resized\n").await.unwrap();
        stdin.read_to_end(&mut Vec::new()).await.unwrap();
        Ok(0)
    })
    .unwrap()
}

#[tokio::test]
async fn first_size_is_known_when_the_process_starts() {
    let limits = Limits { first_size: Duration::from_secs(30), ..Limits::default() };
    let server = server(limits).await;
    let sizes = br#"{"Width":80,"Height":24}"#;
    let mut client = spdy::connect(&server.url(sized()).unwrap(), "v4.channel.k8s.io").await;
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        client.open(stream, kind).await;
    }
    client.writer.data(7, false, sizes).await;
    client.until(5, "Some(Size { columns: 80, rows: 24 })\n").await;
    let more = br#"{"Width":1,"Height":1}{"Width":132,"Height":43}"#;
    client.writer.data(7, false, more).await;
    client.until(5, "resized\n").await;
    client.writer.data(3, true, b"").await;
    assert_eq!(json(&soon(client.finish()).await.text(1))["status"], "Success");

    let mut client = websocket::connect(&server.url(sized()).unwrap(), "v5.channel.k8s.io").await;
    client.send(4, sizes).await;
    assert_eq!(client.receive().await, Some((1, Vec::new())));
    let first = b"Some(Size { columns: 80, rows: 24 })\n".to_vec();
    assert_eq!(client.receive().await, Some((1, first)));
    client.send(4, more).await;
    client.close(0).await;
    let [_, stdout, _, status] = soon(client.finish()).await;
    assert_eq!((stdout.as_str(), &json(&status)["status"]), ("resized\n", &json!("Success")));
}

#[tokio::test]
async fn size_that_never_comes_is_not_waited_for() {
    let limits = Limits { first_size: Duration::from_millis(20), ..Limits::default() };
    let server = server(limits).await;
    let url = server.url(sized()).unwrap();
    let mut client = websocket::connect(&url, "v4.channel.k8s.io").await;
    assert_eq!(client.receive().await, Some((1, Vec::new())));
    assert_eq!(soon(client.receive()).await, Some((1, b"None\n".to_vec())));
}

#[tokio::test]
async fn channels_carry_what_streams_do() {
    let server = server(Limits::default()).await;
    let url = server.url(repeats(Ok(7))).unwrap();
    let mut client = websocket::connect(&url, "v5.channel.k8s.io").await;
    assert_eq!(client.receive().await, Some((1, Vec::new())));
    client.send(9, b"no such channel").await;
    client.send(2, b"not for clients").await;
    client.send(0, b"hello").await;
    client.close(0).await;
    let [stdin, stdout, stderr, status] = soon(client.finish()).await;
    assert_eq!((stdin.as_str(), stdout.as_str(), stderr.as_str()), ("", "hello", "! hello"));
    assert_eq!(json(&status)["details"]["causes"][0]["message"], "7");
}

/// Repeats a line of input, and returns an exit code.
fn one_line(code: u32) -> Session {
    let wanted = Wanted { stdin: true, stderr: true, ..Wanted::default() };
    Session::attach(wanted, async move |mut streams| {
        let mut line = [0; 6];
        streams.stdin.as_mut().unwrap().read_exact(&mut line).await.unwrap();
        streams.stderr.as_mut().unwrap().write_all(&line).await.unwrap();
        Ok(code)
    })
    .unwrap()
}

#[tokio::test]
async fn versions_without_half_close_work_to_the_process_end() {
    let server = server(Limits::default()).await;
    let text = "command terminated with non-zero exit code: exit status 1";
    for (protocol, new) in [
        ("", false),
        ("channel.k8s.io", false),
        ("base64.channel.k8s.io", false),
        ("v4.channel.k8s.io", true),
        ("v4.base64.channel.k8s.io", true),
    ] {
        let url = server.url(one_line(1)).unwrap();
        assert!(url.contains("/attach/"));
        let mut client = websocket::connect(&url, protocol).await;
        // The first channel that can be written to says that the connection is up.
        assert_eq!(client.receive().await, Some((2, Vec::new())));
        client.send(0, b"line").await;
        client.send(0, b"\xff\n").await;
        let all = soon(client.contents()).await;
        assert_eq!(all[2], b"line\xff\n");
        let status = String::from_utf8(all[3].clone()).unwrap();
        if new {
            assert_eq!(json(&status)["message"], text);
        } else {
            assert_eq!(status, text);
        }
    }
}
