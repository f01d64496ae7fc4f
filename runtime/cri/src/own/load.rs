//! Load: images out of an archive that comes in pieces.

use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;

use api::error::chain;
use futures::future::{Either, select};
use image::load::{self, LoadError};
use protocol::node::{LoadRequest, LoadResponse};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::{Status, Streaming};

use super::told;
use crate::fault::Fault;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    pieces: Streaming<LoadRequest>,
) -> Result<LoadResponse, Fault> {
    let images = &pods.node.images;
    let failed = |error: std::io::Error| Fault::Internal(format!("loading images: {error}"));
    let (into, from) = UnixStream::pair().map_err(failed)?;
    let from = from.into_std().map_err(failed)?;
    from.set_nonblocking(false).map_err(failed)?;
    let loading = load::load(&images.store, &images.workers, from.as_fd());
    let loaded = whole(feed(pieces, into), loading).await;
    settle(pods);
    let images = loaded?.map_err(|error| fault(&error))?;
    Ok(LoadResponse { images: images.iter().map(|image| told(image)).collect() })
}

/// What is made of an archive that has come as a whole. What is made of a half is given up before
/// anything of it is kept: the end of the bytes says nothing.
async fn whole<T>(
    feeding: impl Future<Output = Result<(), Status>>,
    loading: impl Future<Output = T>,
) -> Result<T, Fault> {
    match select(pin!(feeding), pin!(loading)).await {
        Either::Left((Ok(()), loading)) => Ok(loading.await),
        Either::Left((Err(status), _)) => {
            Err(Fault::Cancelled(format!("receiving the archive: {status}")))
        }
        Either::Right((loaded, _)) => Ok(loaded),
    }
}

/// Sees to it that what came is on the disk. Nobody waits for it.
fn settle(pods: &Arc<Pods>) {
    let store = pods.node.images.store.clone();
    tokio::task::spawn_blocking(move || {
        store.settle().map(drop).unwrap_or_else(|error| log::error!("image store: {error}"));
    });
}

/// Hands over the pieces as they come. A reader that takes no more has failed, and tells why. The end
/// is said only after the last piece.
async fn feed(
    mut pieces: Streaming<LoadRequest>,
    mut into: impl AsyncWrite + Unpin,
) -> Result<(), Status> {
    while let Some(LoadRequest { piece }) = pieces.message().await? {
        if into.write_all(&piece).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn fault(error: &LoadError) -> Fault {
    let text = format!("loading images: {}", chain(error));
    match error {
        LoadError::Archive(_) => Fault::InvalidArgument(text),
        LoadError::Worker(_) | LoadError::Store(_) | LoadError::Stopped(_) => Fault::Internal(text),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read(pieces: &[&str], end: Result<(), Status>) -> Result<String, Fault> {
        let (mut into, mut from) = UnixStream::pair().unwrap();
        let feeding = async move {
            for piece in pieces {
                into.write_all(piece.as_bytes()).await.unwrap();
            }
            end
        };
        let loading = async move {
            let mut all = String::new();
            from.read_to_string(&mut all).await.map(|_| all).unwrap()
        };
        whole(feeding, loading).await
    }

    #[tokio::test]
    async fn half_an_archive_does_not_pass_for_a_whole_one() {
        assert_eq!(read(&["ab", "", "c"], Ok(())).await.unwrap(), "abc");
        let gone = read(&["ab"], Err(Status::cancelled("gone"))).await;
        assert!(matches!(gone, Err(Fault::Cancelled(_))), "{gone:?}");
    }
}
