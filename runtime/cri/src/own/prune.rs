//! Prune: removes images that no container uses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use image::digest::Digest;
use image::store::{Image, Prune, View};
use protocol::node::{PruneRequest, PruneResponse};

use super::told;
use crate::fault::{Fault, blocking};
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    PruneRequest { untagged, dry_run }: PruneRequest,
) -> Result<PruneResponse, Fault> {
    let which = if untagged { Prune::Untagged } else { Prune::Unused };
    let store = pods.node.images.store.clone();
    blocking("removing images", move || {
        let (view, mut images) = (store.view(), store.unused(which));
        if !dry_run {
            let removed: BTreeSet<_> = store.prune(which)?.into_iter().collect();
            images.retain(|image| removed.contains(&image.id));
        }
        let bytes = bytes_of_their_own(&view, &images);
        Ok::<_, Fault>(PruneResponse {
            images: images.iter().map(|one| told(one)).collect(),
            bytes,
        })
    })
    .await?
}

/// Bytes of layers that no other image has (pure).
fn bytes_of_their_own(view: &View, images: &[Arc<Image>]) -> u64 {
    let gone: BTreeSet<&Digest> = images.iter().map(|image| &image.id).collect();
    let mut layers: BTreeMap<&Digest, u64> = BTreeMap::new();
    for image in images {
        layers.extend(image.layers.iter().map(|layer| (&layer.diff_id, layer.size)));
    }
    let others = view.images().filter(|image| !gone.contains(&image.id));
    for layer in others.flat_map(|image| &image.layers) {
        layers.remove(&layer.diff_id);
    }
    layers.values().sum()
}
