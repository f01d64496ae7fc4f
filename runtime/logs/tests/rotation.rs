//! A log that is written at full speed while a kubelet rotates it a thousand times, whose daemon is
//! killed in every third of them.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use logs::records::Stream;
use logs::{Log, LogSink};
use rustix::fs::inotify;

const ROTATIONS: usize = 1000;

/// What the writer has written, and whether it is to end: [`OVER`] is added then.
type Written = Arc<AtomicUsize>;

const OVER: usize = 1 << 32;

/// Writes lines until it is told to end.
async fn lines(mut out: LogSink, written: Written) {
    while written.load(Ordering::SeqCst) < OVER {
        let count = written.load(Ordering::SeqCst) % OVER;
        out.write(format!("line {count}\n").as_bytes()).await;
        written.fetch_add(1, Ordering::SeqCst);
    }
    out.end().await;
}

/// How a call ends for who made it.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Comes,
    /// The daemon was killed after the shim had done it.
    IsLost,
    /// The daemon was killed while the shim did it, sooner or later.
    IsNotWaitedFor,
}

/// Rotates as kubelet's `rotateLatestLog` does. Where the old file is now.
async fn rotate(log: &Arc<Log>, number: usize, answer: Answer) -> Option<PathBuf> {
    let path = log.path().to_owned();
    let old = path.with_extension(format!("log.{number:04}"));
    std::fs::rename(&path, &old).unwrap();
    match answer {
        Answer::Comes => {
            log.reopen().await.unwrap();
            return Some(old);
        }
        Answer::IsLost => log.reopen().await.unwrap(),
        Answer::IsNotWaitedFor => {
            let reopen = log.reopen();
            // The work goes on when its future is dropped.
            let _gone =
                tokio::time::timeout(Duration::from_micros(number as u64 % 50), reopen).await;
        }
    }
    std::fs::rename(&old, &path).unwrap();
    None
}

/// The lines of a file.
fn text(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split_once(" stdout F ").unwrap().1.to_owned()).collect()
}

/// How many files were made under this name since the watch began.
fn made(watch: &std::os::fd::OwnedFd, name: &str) -> usize {
    let mut buffer = [MaybeUninit::uninit(); 1 << 16];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    let mut count = 0;
    loop {
        match events.next() {
            Ok(event) => {
                assert!(!event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW));
                let is_made = event.events().contains(inotify::ReadFlags::CREATE);
                let own = event.file_name().is_some_and(|found| found.to_str() == Ok(name));
                count += usize::from(is_made && own);
            }
            Err(rustix::io::Errno::AGAIN) => return count,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_rotations_lose_and_double_no_line_although_their_daemon_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    let log = Log::open(&path).await.unwrap();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, directory.path(), inotify::WatchFlags::CREATE).unwrap();
    let written = Written::default();
    let sink = LogSink::new(log.clone(), Stream::Stdout, 4096);
    let writer = tokio::spawn(lines(sink, Arc::clone(&written)));
    let (mut parts, mut seen) = (Vec::new(), 0);
    for number in 0..ROTATIONS {
        // Each file has something.
        let before = written.load(Ordering::SeqCst);
        while written.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
        let answer = match number % 6 {
            1 => Answer::IsLost,
            4 => Answer::IsNotWaitedFor,
            _ => Answer::Comes,
        };
        if let Some(old) = rotate(&log, number, answer).await {
            // It is complete: nothing is added to it any more.
            parts.push((std::fs::metadata(&old).unwrap().len(), old));
        }
        let new = made(&watch, "0.log");
        assert!(
            new > 0 || answer != Answer::Comes,
            "who follows the log does not see the new file"
        );
        seen += new;
    }
    written.fetch_add(OVER, Ordering::SeqCst);
    writer.await.unwrap();
    let count = written.load(Ordering::SeqCst) % OVER;
    let mut all = Vec::new();
    for (length, old) in &parts {
        assert_eq!(std::fs::metadata(old).unwrap().len(), *length, "{}", old.display());
        all.extend(text(old));
    }
    all.extend(text(&path));
    let expected: Vec<_> = (0..count).map(|line| format!("line {line}")).collect();
    let wrong = all.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert!(all == expected, "{} of {count} lines, the first wrong at {wrong:?}", all.len());
    assert!(seen >= parts.len() && count >= ROTATIONS, "{seen} files, {count} lines");
}

#[tokio::test]
async fn log_whose_old_file_came_back_goes_on_there_with_all_it_had() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    let log = Log::open(&path).await.unwrap();
    let mut out = LogSink::new(log.clone(), Stream::Stdout, 4096);
    out.write(b"one\n").await;
    let old = directory.path().join("old");
    std::fs::rename(&path, &old).unwrap();
    log.reopen().await.unwrap();
    out.write(b"two\n").await;
    std::fs::rename(&old, &path).unwrap();
    out.write(b"three\n").await;
    assert_eq!(text(&path), ["one", "two", "three"]);
    // What was deleted is gone until the log is opened anew; who deleted it wanted that.
    std::fs::remove_file(&path).unwrap();
    out.write(b"four\n").await;
    assert!(!path.exists());
    log.reopen().await.unwrap();
    out.write(b"five\n").await;
    assert_eq!(text(&path), ["five"], "it had lines from before its rotation");
}
