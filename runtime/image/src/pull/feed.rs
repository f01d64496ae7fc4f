//! One layer's way: bytes of the network go through a short channel to a thread that converts them.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use erofs::Options;
use futures::TryStreamExt;
use tokio::sync::mpsc;

use super::jobs::Made;
use super::{Pull, PullError};
use crate::layer::{self, Expected, LayerError};
use crate::manifest::Blob;
use crate::store::{Lease, StoreError};

/// Pieces of the network's that wait for the thread: a few hundred KiB.
const WAITING: usize = 16;

/// What the thread gets.
enum Piece {
    Bytes(Bytes),
    End,
}

/// The bytes for the thread. An end that was not said is an error: half a layer must not pass for a
/// whole one.
struct Fed {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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

/// Why the thread has no layer.
enum Failed {
    Layer(LayerError),
    Store(StoreError),
}

/// Brings a layer into the store; the lease that keeps it.
pub(super) async fn layer(pull: Pull, blob: Blob, expected: Expected) -> Made {
    let image = pull.name.clone();
    let ended = || PullError::Ended { image: image.clone() };
    let _slot = pull.slots.acquire().await.map_err(|_| ended())?;
    let (sender, pieces) = mpsc::channel(WAITING);
    let lease = Arc::new(pull.store.lease());
    let kept = Arc::clone(&lease);
    let layer = expected.digest.clone();
    let store = pull.store.clone();
    let thread = tokio::task::spawn_blocking(move || {
        let fed = Fed { pieces, current: Bytes::new(), ended: false };
        convert(&store, &kept, fed, &expected)
    });
    let fed = feed(&pull, &blob, sender).await;
    let converted = thread.await.map_err(|_| ended())?;
    match (fed, converted) {
        // What the thread says of a transfer that broke is only that.
        (Err(source), _) => Err(PullError::registry(&image, source)),
        (Ok(()), Err(Failed::Layer(source))) => {
            Err(PullError::Layer { image, layer, source: Arc::new(source) })
        }
        (Ok(()), Err(Failed::Store(source))) => Err(PullError::store(&image, source)),
        (Ok(()), Ok(())) => Ok(lease),
    }
}

/// Hands over the bytes as they come. A thread that takes no more has failed, and tells why.
async fn feed(
    pull: &Pull,
    blob: &Blob,
    pieces: mpsc::Sender<Piece>,
) -> Result<(), crate::registry::RegistryError> {
    let mut stream = pull.registry.blob(blob);
    while let Some(bytes) = stream.try_next().await? {
        if pieces.send(Piece::Bytes(bytes)).await.is_err() {
            return Ok(());
        }
    }
    // As above.
    let _ = pieces.send(Piece::End).await;
    Ok(())
}

fn convert(
    store: &crate::store::Store,
    lease: &Lease,
    fed: Fed,
    expected: &Expected,
) -> Result<(), Failed> {
    let staged = store.stage().map_err(Failed::Store)?;
    let converted = layer::convert(fed, expected, staged.file(), Options::default());
    let made = converted.map_err(Failed::Layer)?;
    lease.keep(staged, &made.diff_id).map_err(Failed::Store)
}
