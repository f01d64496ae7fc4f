//! Save: an archive of images, in pieces.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as Socket;
use std::pin::pin;
use std::sync::Arc;

use api::error::chain;
use futures::future::{Either, select};
use image::export::{self, Exported, Wanted};
use image::save::{self, SaveError};
use protocol::node::{Format, SaveRequest, SaveResponse, SavedImage};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::Status;

use super::Messages;
use crate::fault::Fault;
use crate::pods::Pods;

/// Bytes of a piece.
const PIECE: usize = 256 << 10;

/// Pieces that wait for the client.
const WAITING: usize = 4;

type Client = mpsc::Sender<Result<SaveResponse, Status>>;

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
    let pods = Arc::clone(pods);
    tokio::spawn(async move {
        let last = save(&pods, &wanted, format, &sender).await;
        // A client that has gone wants no end.
        let _ = sender.send(last.map_err(Into::into)).await;
    });
    Ok(Messages::new(receiver))
}

/// Sends all pieces of the archive, and returns what is in it.
async fn save(
    pods: &Pods,
    wanted: &[Wanted],
    format: export::Format,
    client: &Client,
) -> Result<SaveResponse, Fault> {
    let failed = |error: std::io::Error| Fault::Internal(format!("saving images: {error}"));
    let (into, from) = Socket::pair().map_err(failed)?;
    from.set_nonblocking(true).map_err(failed)?;
    let from = UnixStream::from_std(from).map_err(failed)?;
    let images = &pods.node.images;
    let saving = async move {
        let saved = save::save(&images.store, &images.workers, (wanted, format), into.as_fd());
        // The last piece has come when this end is closed.
        saved.await.map_err(|error| fault(&error))
    };
    let (saving, passing) = (pin!(saving), pin!(pass(from, client)));
    let exported = match select(saving, passing).await {
        Either::Left((exported, passing)) => {
            let exported = exported?;
            passing.await?;
            exported
        }
        Either::Right((passed, saving)) => {
            passed?;
            saving.await?
        }
    };
    Ok(SaveResponse { piece: Vec::new(), images: told(exported) })
}

/// Passes the pieces on to the client as they come.
async fn pass(mut from: UnixStream, client: &Client) -> Result<(), Fault> {
    let gone =
        || Fault::Cancelled("saving images: writing the archive: the client has gone".into());
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut from).take(PIECE as u64).read_to_end(&mut piece).await;
        read.map_err(|error| Fault::Internal(format!("saving images: {error}")))?;
        if piece.is_empty() {
            return Ok(());
        }
        let message = SaveResponse { piece, images: Vec::new() };
        client.send(Ok(message)).await.map_err(|_| gone())?;
    }
}

fn told(exported: Vec<Exported>) -> Vec<SavedImage> {
    let one = |Exported { source, id, names }: Exported| SavedImage {
        source: source.to_string(),
        id: id.to_string(),
        names: names.iter().map(ToString::to_string).collect(),
    };
    exported.into_iter().map(one).collect()
}

fn fault(error: &SaveError) -> Fault {
    let text = format!("saving images: {}", chain(error));
    match error {
        SaveError::Gone(_) => Fault::Cancelled(text),
        SaveError::Export(_) | SaveError::Failed(_) | SaveError::Worker(_) => Fault::Internal(text),
    }
}
