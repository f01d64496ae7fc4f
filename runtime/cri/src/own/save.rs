//! Save: an archive of images, in pieces.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use api::error::chain;
use image::export::{self, ExportError, Exported, Wanted};
use protocol::node::{Format, SaveRequest, SaveResponse, SavedImage};
use tokio::sync::mpsc;
use tonic::Status;

use super::Messages;
use crate::fault::Fault;
use crate::pods::Pods;

/// Bytes of a piece.
const PIECE: usize = 256 << 10;

/// Pieces that wait for the client.
const WAITING: usize = 4;

pub(super) fn run(pods: &Arc<Pods>, request: SaveRequest) -> Result<Messages<SaveResponse>, Fault> {
    let format = match request.format() {
        Format::Oci => export::Format::Oci,
        Format::Docker => export::Format::Docker,
    };
    let store = pods.node.images.store.clone();
    if request.images.is_empty() {
        return Err(Fault::InvalidArgument("no image is named".into()));
    }
    let found = request.images.iter().map(|text| Wanted::find(&store, text));
    let wanted: Vec<_> = found.collect::<Result<_, _>>()?;
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let out = BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        let last = match export::export(&store, &wanted, format, out) {
            Ok(exported) => Ok(SaveResponse { piece: Vec::new(), images: told(exported) }),
            Err(error) => Err(fault(&error).into()),
        };
        // A client that has gone wants no end.
        let _ = sender.blocking_send(last);
    });
    Ok(Messages::new(receiver))
}

fn told(exported: Vec<Exported>) -> Vec<SavedImage> {
    let one = |Exported { source, id, names }: Exported| SavedImage {
        source: source.to_string(),
        id: id.to_string(),
        names: names.iter().map(ToString::to_string).collect(),
    };
    exported.into_iter().map(one).collect()
}

fn fault(error: &ExportError) -> Fault {
    let text = format!("saving images: {}", chain(error));
    match error {
        ExportError::Write(_) => Fault::Cancelled(text),
        _ => Fault::Internal(text),
    }
}

/// The client, who takes pieces.
struct Pieces(mpsc::Sender<Result<SaveResponse, Status>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = &bytes[..bytes.len().min(PIECE)];
        let message = SaveResponse { piece: some.to_vec(), images: Vec::new() };
        let gone = |_| io::ErrorKind::BrokenPipe;
        self.0.blocking_send(Ok(message)).map_err(gone)?;
        Ok(some.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
