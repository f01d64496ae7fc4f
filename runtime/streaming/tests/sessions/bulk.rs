//! Much, often, and slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use streaming::{Limits, Session, Wanted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::clients::{spdy, websocket};
use crate::life::{OUTPUT, none_left};
use crate::{server, soon};

const GIB: u64 = 1 << 30;
const PIECE: usize = 32 << 10;
/// What this process may take meanwhile: far more than a session's queues and what the tests beside
/// this one hold, far less than what goes through. Alone it is less than 1 MiB.
const MEMORY: u64 = 400 << 20;

/// Memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Content that shows where it is from.
fn piece(number: u64) -> Vec<u8> {
    (0..PIECE as u64 / 8).flat_map(|word| (number << 16 | word).to_le_bytes()).collect()
}

/// Takes input of 1 GiB and repeats it; fails on the first byte that is not as it should be.
fn through() -> Session {
    let wanted = Wanted { stdin: true, stdout: true, ..Wanted::default() };
    Session::exec(wanted, async |streams| {
        let (mut stdin, mut stdout) = (streams.stdin.unwrap(), streams.stdout.unwrap());
        let mut bytes = vec![0; PIECE];
        for number in 0..GIB / PIECE as u64 {
            stdin.read_exact(&mut bytes).await.unwrap();
            assert!(bytes == piece(number), "piece {number} of input");
            stdout.write_all(&bytes).await.unwrap();
        }
        assert_eq!(stdin.read(&mut bytes).await.unwrap(), 0);
        Ok(0)
    })
    .unwrap()
}

/// Output until now.
#[derive(Default)]
struct Output {
    received: u64,
    /// What comes next.
    expected: Vec<u8>,
    /// Most memory that was seen, in bytes.
    most: u64,
}

impl Output {
    /// Takes what comes next, in any pieces, and checks it.
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.expected.is_empty() {
                self.expected = piece(self.received / PIECE as u64);
                self.most = self.most.max(resident());
            }
            let (start, rest) = bytes.split_at(bytes.len().min(self.expected.len()));
            assert!(*start == self.expected[..start.len()], "output at {}", self.received);
            self.expected.drain(..start.len());
            self.received += start.len() as u64;
            bytes = rest;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gigabyte_goes_through_in_both_directions() {
    let server = server(Limits::default()).await;
    let url = server.url(through()).unwrap();
    let mut client = spdy::connect(&url, "v4.channel.k8s.io").await;
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        client.open(stream, kind).await;
    }
    let before = resident();
    let spdy::Client { mut reader, mut writer } = client;
    let sends = tokio::spawn(async move {
        for number in 0..GIB / PIECE as u64 {
            writer.data(3, false, &piece(number)).await;
        }
        writer.data(3, true, &[]).await;
        writer
    });
    let (mut output, mut status) = (Output::default(), Vec::new());
    while let Some(frame) = reader.next().await {
        match frame {
            spdy::Frame::Data { stream: 5, bytes, .. } => output.take(&bytes),
            spdy::Frame::Data { stream: 1, bytes, .. } => status.extend(bytes),
            spdy::Frame::GoAway(_) => break,
            _ => {}
        }
    }
    let Output { received, most, .. } = output;
    assert_eq!((received, &status[..]), (GIB, &br#"{"metadata":{},"status":"Success"}"#[..]));
    eprintln!("memory grew by at most {} KiB", most.saturating_sub(before) >> 10);
    assert!(most < before + MEMORY, "memory grew from {before} to {most} bytes");
    drop((sends.await.unwrap(), reader));
    none_left(&server).await;
}

/// The output and the status of a process, by SPDY.
async fn by_spdy(url: &str) -> (Vec<u8>, String) {
    let mut client = spdy::connect(url, "v4.channel.k8s.io").await;
    client.open(1, "error").await;
    client.open(3, "stdout").await;
    let mut received = soon(client.finish()).await;
    (received.content.remove(&3).unwrap(), received.text(1))
}

/// The same by channels.
async fn by_channels(url: &str) -> (Vec<u8>, String) {
    let client = websocket::connect(url, "v5.channel.k8s.io").await;
    let [_, output, _, status] = soon(client.contents()).await;
    (output, String::from_utf8(status).unwrap())
}

#[tokio::test]
async fn thousand_execs_in_a_row() {
    let server = server(Limits::default()).await;
    for number in 0..1000_u32 {
        let session = Session::exec(OUTPUT, async move |mut streams| {
            streams.stdout.as_mut().unwrap().write_all(&number.to_le_bytes()).await.unwrap();
            Ok(number % 256)
        });
        let url = server.url(session.unwrap()).unwrap();
        let code = number % 256;
        let (output, status) =
            if number % 2 == 0 { by_spdy(&url).await } else { by_channels(&url).await };
        assert_eq!(output, number.to_le_bytes());
        let expected = if code == 0 { "\"Success\"".to_owned() } else { format!("\"{code}\"") };
        assert!(status.contains(&expected), "{number}: {status}");
    }
    none_left(&server).await;
    // Sockets of clients and sessions are closed.
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 500, "{open} descriptors are open");
}

#[tokio::test]
async fn slow_reader_holds_up_only_itself() {
    let server = server(Limits::default()).await;
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let flood = Session::exec(OUTPUT, async move |mut streams| {
        let stdout = streams.stdout.as_mut().unwrap();
        for _ in 0..2048 {
            stdout.write_all(&[7; PIECE]).await.unwrap();
            counter.fetch_add(PIECE as u64, Ordering::Relaxed);
        }
        Ok(0)
    });
    let url = server.url(flood.unwrap()).unwrap();
    let mut slow = spdy::connect(&url, "v4.channel.k8s.io").await;
    slow.open(1, "error").await;
    slow.open(3, "stdout").await;
    // What fits in the kernel's buffers goes; then the process waits.
    let mut before = u64::MAX;
    while written.load(Ordering::Relaxed) != before {
        before = written.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before < 2048 * PIECE as u64, "nothing held the process up");
    // Another session is served meanwhile.
    let quick = Session::exec(OUTPUT, async |mut streams| {
        streams.stdout.as_mut().unwrap().write_all(b"quick").await.unwrap();
        Ok(0)
    });
    let url = server.url(quick.unwrap()).unwrap();
    let client = websocket::connect(&url, "v4.channel.k8s.io").await;
    assert_eq!(soon(client.finish()).await[1], "quick");
    // And nothing is lost.
    let received = soon(slow.finish()).await;
    assert_eq!(received.content[&3].len(), 2048 * PIECE);
    assert!(received.text(1).contains("Success"));
}

#[tokio::test]
async fn full_input_does_not_hold_up_output() {
    let server = server(Limits::default()).await;
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let wanted = Wanted { stdin: true, stdout: true, ..Wanted::default() };
    // Reads nothing before it is told, and speaks meanwhile.
    let session = Session::exec(wanted, async move |mut streams| {
        let stdout = streams.stdout.as_mut().unwrap();
        for _ in 0..1024 {
            stdout.write_all(&[1; PIECE]).await.unwrap();
        }
        gone.await.unwrap();
        let mut count = 0;
        let mut piece = vec![0; PIECE];
        let stdin = streams.stdin.as_mut().unwrap();
        while let Ok(more @ 1..) = stdin.read(&mut piece).await {
            count += more;
        }
        Ok(u32::from(count != 1024 * PIECE))
    });
    let url = server.url(session.unwrap()).unwrap();
    let mut client = spdy::connect(&url, "v4.channel.k8s.io").await;
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        client.open(stream, kind).await;
    }
    let spdy::Client { mut reader, mut writer } = client;
    let sends = tokio::spawn(async move {
        for _ in 0..1024 {
            writer.data(3, false, &[2; PIECE]).await;
        }
        writer.data(3, true, &[]).await;
        writer
    });
    let mut count = 0;
    while count < 1024 * PIECE {
        match soon(reader.next()).await {
            Some(spdy::Frame::Data { stream: 5, bytes, .. }) => count += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    assert!(!sends.is_finished(), "input was not full");
    go.send(()).unwrap();
    let mut status = Vec::new();
    while let Some(frame) = soon(reader.next()).await {
        match frame {
            spdy::Frame::Data { stream: 1, bytes, .. } => status.extend(bytes),
            spdy::Frame::GoAway(_) => break,
            _ => {}
        }
    }
    assert!(String::from_utf8(status).unwrap().contains("Success"));
}
