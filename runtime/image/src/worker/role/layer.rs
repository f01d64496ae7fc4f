//! One layer's way: bytes of the network go through a short channel to a thread that converts them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use erofs::Options;
use futures::TryStreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{failed, of_output};
use crate::layer::{self, LayerError};
use crate::manifest::Blob;
use crate::registry::{Registry, RegistryError};
use crate::worker::words::{Failure, FailureKind, Told, Wanted};

/// Pieces of the network's that wait for the thread: at most a few MiB.
const WAITING: usize = 16;

/// What the thread gets.
pub(super) enum Piece {
    Bytes(Bytes),
    End,
}

/// Whether nobody waits any more for what the thread makes.
#[derive(Debug, Clone, Default)]
struct GivenUp(Arc<AtomicBool>);

impl GivenUp {
    fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(io::Error::other("nobody waits for it any more")),
            false => Ok(()),
        }
    }
}

/// The bytes for the thread. An end that was not said is an error: half a layer must not pass for a
/// whole one.
struct Fed {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
    given_up: GivenUp,
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.given_up.check()?;
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let some = buffer.len().min(self.current.len());
        buffer[..some].copy_from_slice(&self.current[..some]);
        self.current.advance(some);
        Ok(some)
    }
}

/// The staged file. A few bytes of the network may become many here, so this stops as well.
struct Output<'a> {
    file: &'a File,
    given_up: GivenUp,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.given_up.check()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Output<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A thread that converts.
#[derive(Debug)]
pub(super) struct Thread {
    made: JoinHandle<Result<(), LayerError>>,
    given_up: GivenUp,
}

impl Thread {
    /// Waits for its end: what is told of the layer.
    pub(super) async fn made(&mut self) -> Told {
        match (&mut self.made).await {
            Ok(Ok(())) => Told::Done,
            Ok(Err(error)) => failed(kind(&error), &error),
            Err(error) => Told::Failed(Failure::new(FailureKind::Invalid, &error.to_string())),
        }
    }

    /// Ends it, and waits for that.
    pub(super) async fn give_up(mut self) {
        self.given_up.0.store(true, Ordering::Relaxed);
        // What it says is that it was given up.
        let _ = (&mut self.made).await;
    }
}

/// What follows from a layer that can't be converted.
pub(super) fn kind(error: &LayerError) -> FailureKind {
    match error {
        LayerError::Output { source, .. } => of_output(source),
        _ => FailureKind::Invalid,
    }
}

/// Starts a thread that converts the pieces that it gets.
pub(super) fn convert(wanted: &Wanted, file: File) -> (mpsc::Sender<Piece>, Thread) {
    let (sender, pieces) = mpsc::channel(WAITING);
    let given_up = GivenUp::default();
    let (seen, expected) = (given_up.clone(), wanted.expected());
    let made = tokio::task::spawn_blocking(move || {
        let fed = Fed { pieces, current: Bytes::new(), ended: false, given_up: seen.clone() };
        let output = Output { file: &file, given_up: seen };
        layer::convert(fed, &expected, output, Options::default()).map(drop)
    });
    (sender, Thread { made, given_up })
}

/// Hands over the bytes as they come, and counts them. A thread that takes no more has failed, and
/// tells why.
pub(super) async fn feed(
    registry: &Registry,
    blob: &Blob,
    pieces: mpsc::Sender<Piece>,
    received: &AtomicU64,
) -> Result<(), RegistryError> {
    let mut stream = registry.blob(blob);
    while let Some(bytes) = stream.try_next().await? {
        received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if pieces.send(Piece::Bytes(bytes)).await.is_err() {
            return Ok(());
        }
    }
    // As above.
    let _ = pieces.send(Piece::End).await;
    Ok(())
}
