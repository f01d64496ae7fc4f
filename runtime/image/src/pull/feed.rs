//! One layer's way: bytes of the network go through a short channel to a thread that converts them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes};
use erofs::Options;
use futures::TryStreamExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::jobs::{Made, Received, Wanted};
use super::{Cause, Pull};
use crate::layer::{self, Expected};
use crate::manifest::Blob;
use crate::registry::RegistryError;
use crate::store::{Lease, Store};

/// Pieces of the network's that wait for the thread: at most a few MiB.
const WAITING: usize = 16;

/// How often a layer is asked for. The server that sent other content is asked last the next time.
const ATTEMPTS: usize = 2;

/// What the thread gets.
enum Piece {
    Bytes(Bytes),
    End,
}

/// Whether anybody still waits for what the thread makes. Dropping it says no.
#[derive(Default)]
struct Asked(Arc<AtomicBool>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the thread knows of that.
#[derive(Clone)]
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

/// Brings a layer into the store; the lease that keeps it. `received` counts the bytes that come.
pub(super) async fn layer(pull: Pull, wanted: Wanted, received: Received) -> Made {
    let closed = |error: tokio::sync::AcquireError| Cause::Stopped(error.to_string());
    let slot = Arc::new(pull.slots.clone().acquire_owned().await.map_err(closed)?);
    let lease = Arc::new(pull.store.lease());
    // It may have come since the job was asked for, also out of another blob.
    if lease.find(&wanted.diff_id) {
        return Ok(lease);
    }
    for attempt in 1.. {
        received.store(0, Ordering::Relaxed);
        match one((&pull, &received), &wanted, &lease, &slot).await {
            Err(Cause::Registry(error))
                if attempt < ATTEMPTS && matches!(*error, RegistryError::Content(_)) =>
            {
                log::warn!("asking once more for layer {}: {error}", wanted.blob.digest);
            }
            Err(cause) => return Err(cause),
            Ok(()) => break,
        }
    }
    Ok(lease)
}

/// One attempt. The thread has the slot too: it may go on for a moment when this is dropped.
async fn one(
    (pull, received): (&Pull, &Received),
    wanted: &Wanted,
    lease: &Arc<Lease>,
    slot: &Arc<OwnedSemaphorePermit>,
) -> Result<(), Cause> {
    let (sender, pieces) = mpsc::channel(WAITING);
    let asked = Asked::default();
    let given_up = GivenUp(Arc::clone(&asked.0));
    let (kept, slot, store) = (Arc::clone(lease), Arc::clone(slot), pull.store.clone());
    let expected = wanted.expected();
    let thread = tokio::task::spawn_blocking(move || {
        let fed = Fed { pieces, current: Bytes::new(), ended: false, given_up: given_up.clone() };
        let made = convert(&store, &kept, fed, &expected);
        drop((kept, slot));
        if made.is_ok() && given_up.check().is_err() {
            // Whoever gave it up has looked for what is left, maybe before this layer was there.
            store.collect().unwrap_or_else(|error| log::error!("image store: {error}"));
        }
        made
    });
    let fed = feed((pull, received), &wanted.blob, sender).await;
    let converted = thread.await.map_err(|error| Cause::stopped(&error))?;
    match fed {
        // What the thread says of a transfer that broke is only that.
        Err(error) => Err(Cause::Registry(Arc::new(error))),
        Ok(()) => converted,
    }
}

/// Hands over the bytes as they come. A thread that takes no more has failed, and tells why.
async fn feed(
    (pull, received): (&Pull, &Received),
    blob: &Blob,
    pieces: mpsc::Sender<Piece>,
) -> Result<(), RegistryError> {
    let mut stream = pull.registry.blob(blob);
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

fn convert(store: &Store, lease: &Lease, fed: Fed, expected: &Expected) -> Result<(), Cause> {
    let staged = store.stage().map_err(|error| Cause::Store(Arc::new(error)))?;
    let given_up = fed.given_up.clone();
    let output = Output { file: staged.file(), given_up: given_up.clone() };
    let converted = layer::convert(fed, expected, output, Options::default());
    let made = converted.map_err(|reason| Cause::Layer {
        layer: expected.digest.clone(),
        reason: Arc::new(reason),
    })?;
    given_up.check().map_err(|error| Cause::Stopped(error.to_string()))?;
    lease.keep(staged, &made.diff_id).map_err(|error| Cause::Store(Arc::new(error)))
}
