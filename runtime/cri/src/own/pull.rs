//! Pull: brings an image here, and tells how far it is.

use std::sync::Arc;
use std::time::Duration;

use image::pull::Progress;
use image::reference::Reference;
use protocol::node::{Layer, PullRequest, PullResponse};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::Messages;
use crate::fault::Fault;
use crate::pods::Pods;

/// How often it is told.
const PERIOD: Duration = Duration::from_millis(200);

pub(super) fn run(
    pods: &Arc<Pods>,
    PullRequest { image: text }: PullRequest,
) -> Result<Messages<PullResponse>, Fault> {
    let reference = text.parse::<Reference>().map_err(|error| {
        Fault::InvalidArgument(format!("image {:?}: {error}", api::text::printable(&text, 200)))
    })?;
    let puller = pods.node.images.puller.clone();
    // Old news are of no use: one message waits.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let progress = Progress::default();
        let pulling = puller.pull_watched(&reference, None, &progress);
        let telling = tell(&progress, &sender);
        let pulled = tokio::select! {
            pulled = pulling => pulled,
            // The client has gone. Others may want the same image, and have it.
            () = telling => return,
        };
        let last = match pulled {
            Ok(image) => Ok(PullResponse { layers: layers(&progress), id: image.id.to_string() }),
            Err(error) => Err(Fault::Unknown(error.to_string()).into()),
        };
        // As above.
        let _ = sender.send(last).await;
    });
    Ok(Messages::new(receiver))
}

/// Tells how far a pull is until nobody listens.
async fn tell(progress: &Progress, sender: &mpsc::Sender<Result<PullResponse, tonic::Status>>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let message = PullResponse { layers: layers(progress), id: String::new() };
        if sender.send(Ok(message)).await.is_err() {
            return;
        }
    }
}

fn layers(progress: &Progress) -> Vec<Layer> {
    let told = progress.layers().into_iter().map(|layer| Layer {
        digest: layer.digest.to_string(),
        size: layer.size,
        received: layer.received,
        done: layer.done,
    });
    told.collect()
}
