//! What belongs to nobody: files and namespaces without a row, left by a daemon that was killed
//! between an effect and its record.

use std::io;
use std::path::Path;

use crate::node::Node;
use crate::snapshot::Snapshot;

/// Removes it. What can't be removed is told, and stays.
pub(crate) fn sweep(node: &Node) {
    let (places, now) = (&node.places, node.records.now());
    let known = |name: &str| now.pods.contains_key(name) || now.containers.contains_key(name);
    let directories = [places.bundle(""), places.containers()];
    for directory in directories {
        each(&directory, |name, path| match known(name) {
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
