//! What belongs to nobody: files and namespaces without a row, left by a daemon that was killed
//! between an effect and its record.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use companion::Companion;

use crate::foreign::files::unmount;
use crate::node::Node;
use crate::pod::foreign::collect;
use crate::snapshot::Snapshot;

/// Removes it. What can't be removed is told, and stays.
pub(crate) async fn sweep(node: &Node) {
    companions(node).await;
    let now = node.records.now();
    if let Ok(entries) = std::fs::read_dir(node.places.bundle("")) {
        for entry in entries.flatten().filter(|entry| !is_known(&now, &entry.file_name())) {
            // Behind a mount is nothing that may be removed.
            if let Err(fault) = unmount(&entry.path()).await {
                return log::error!("{fault}");
            }
        }
    }
    files(node);
    node.images.sweep();
    collect(node, None).await;
}

fn is_known(now: &Snapshot, name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    now.pods.contains_key(&*name) || now.containers.contains_key(&*name)
}

/// Ends companions of pods that are not on record.
async fn companions(node: &Node) {
    let now = node.records.now();
    let known: BTreeSet<_> = now.pods.keys().map(|id| node.places.companion(id)).collect();
    let Ok(entries) = std::fs::read_dir(node.places.companions()) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if !known.contains(&path)
            && let Err(error) = Companion::at(path).end().await
        {
            log::warn!("a companion that belongs to nobody: {error}");
        }
    }
}

fn files(node: &Node) {
    let (places, now) = (&node.places, node.records.now());
    let directories = [places.bundle(""), places.containers()];
    for directory in directories {
        each(&directory, |name, path| match is_known(&now, name.as_ref()) {
            true => Ok(()),
            false => std::fs::remove_dir_all(path),
        });
    }
    each(&places.netns_directory(), |name, path| match has_namespace(&now, name) {
        true => Ok(()),
        false => network::unpin(path).map_err(io::Error::other),
    });
}

fn has_namespace(now: &Snapshot, name: &str) -> bool {
    now.pods.contains_key(name)
}

fn each(directory: &Path, work: impl Fn(&str, &Path) -> io::Result<()>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if let Err(error) = work(&entry.file_name().to_string_lossy(), &path) {
            log::warn!("removing {}, which belongs to nobody: {error}", path.display());
        }
    }
}
