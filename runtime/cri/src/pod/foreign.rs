//! A pod that runs by another shim than ours, from its beginning to its end. As everywhere, rows
//! come before effects, and each effect can be done and undone again.

mod begin;
mod end;
pub(crate) mod input;
pub(crate) mod metrics;
pub(crate) mod outputs;

use std::path::PathBuf;

pub(super) use begin::begin;
pub(super) use end::{clean_up, end};

use crate::node::Node;
use crate::row::{Container, ContainerPhase};

/// Unmounts the layers that no container on record needs but for `gone`, if one is named.
pub(crate) async fn collect(node: &Node, gone: Option<&str>) {
    node.roots.collect(|| needed(node, gone)).await;
}

/// The files of layers of all foreign containers that are not being removed.
fn needed(node: &Node, gone: Option<&str>) -> Vec<PathBuf> {
    let now = node.records.now();
    let foreign = |pod: &str| {
        let class = now.pods.get(pod).and_then(|pod| node.classes.of(pod).ok());
        class.is_some_and(|class| !class.is_own())
    };
    let rows = now.containers.values().filter(|row| foreign(&row.pod));
    let rows = rows.filter(|row| row.phase() != ContainerPhase::Removing);
    let rows = rows.filter(|row| Some(&*row.id) != gone);
    let images = |row: &Container| {
        let images = std::iter::once(&row.image_id).chain(row.image_volumes.values());
        images.filter_map(|image| node.images.layers(image, &row.id)).flatten().collect::<Vec<_>>()
    };
    rows.flat_map(|row| images(row)).collect()
}
