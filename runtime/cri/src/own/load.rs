//! Load: images out of an archive that comes in pieces.

use std::io::{self, Read};
use std::sync::Arc;

use api::error::chain;
use image::archive::{self, ArchiveError};
use protocol::node::{LoadRequest, LoadResponse};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::told;
use crate::fault::Fault;
use crate::pods::Pods;

/// Pieces that wait for the disk.
const WAITING: usize = 4;

pub(super) async fn run(
    pods: &Arc<Pods>,
    pieces: Streaming<LoadRequest>,
) -> Result<LoadResponse, Fault> {
    let store = pods.node.images.store.clone();
    let (sender, receiver) = mpsc::channel(WAITING);
    let importing = tokio::task::spawn_blocking(move || {
        let imported = archive::import_stream(&store, Pieces::new(receiver));
        // Nobody waits for the disk.
        if let Err(error) = store.settle() {
            log::error!("image store: {error}");
        }
        imported
    });
    let fed = feed(pieces, sender).await;
    let imported = importing.await.map_err(|error| Fault::Internal(error.to_string()))?;
    // What the import says of an archive that did not come is only that.
    fed.map_err(|status| Fault::Cancelled(format!("receiving the archive: {status}")))?;
    let images = imported.map_err(|error| fault(&error))?;
    Ok(LoadResponse { images: images.iter().map(|image| told(image)).collect() })
}

/// Hands over the pieces as they come. An import that takes no more has failed, and tells why.
async fn feed(
    mut pieces: Streaming<LoadRequest>,
    sender: mpsc::Sender<Option<Vec<u8>>>,
) -> Result<(), Status> {
    while let Some(LoadRequest { piece }) = pieces.message().await? {
        if sender.send(Some(piece)).await.is_err() {
            return Ok(());
        }
    }
    // As above.
    let _ = sender.send(None).await;
    Ok(())
}

fn fault(error: &ArchiveError) -> Fault {
    let text = format!("loading images: {}", chain(error));
    match error {
        ArchiveError::Store(_) => Fault::Internal(text),
        _ => Fault::InvalidArgument(text),
    }
}

/// The archive's bytes. An end that was not said is an error: the client has gone.
struct Pieces {
    receiver: mpsc::Receiver<Option<Vec<u8>>>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Pieces {
    fn new(receiver: mpsc::Receiver<Option<Vec<u8>>>) -> Self {
        Self { receiver, current: Vec::new(), at: 0, ended: false }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Some(piece)) => (self.current, self.at) = (piece, 0),
                Some(None) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let rest = &self.current[self.at..];
        let some = buffer.len().min(rest.len());
        buffer[..some].copy_from_slice(&rest[..some]);
        self.at += some;
        Ok(some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: Vec<Option<Vec<u8>>>) -> io::Result<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(8);
        pieces.into_iter().for_each(|piece| sender.try_send(piece).unwrap());
        drop(sender);
        let mut all = Vec::new();
        Pieces::new(receiver).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn half_an_archive_does_not_pass_for_a_whole_one() {
        let piece = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(read(vec![piece("ab"), piece(""), piece("c"), None]).unwrap(), b"abc");
        let error = read(vec![piece("ab")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
