//! Where the daemon keeps what, as paths (pure).

use std::path::{Path, PathBuf};

/// Digits of an id that name a socket.
const SHORT: usize = 24;

/// The two directories of the daemon. What is in `state` is forgotten at a restart of the node, as
/// the pods are; what is in `root` is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    state: PathBuf,
    root: PathBuf,
}

impl Places {
    /// Places below these.
    pub(crate) fn new(state: &Path, root: &Path) -> Self {
        Self { state: state.into(), root: root.into() }
    }

    /// All directories that must exist.
    pub(crate) fn directories(&self) -> [PathBuf; 9] {
        [
            self.state.clone(),
            self.state.join("bundles"),
            self.layers(),
            self.companions(),
            self.netns_directory(),
            self.root.clone(),
            self.images(),
            self.parents(),
            self.root.join("containers"),
        ]
    }

    /// The records of pods and containers.
    pub(crate) fn records(&self) -> PathBuf {
        self.state.join("cri.redb")
    }

    /// Where the streaming server listens for clients on this node.
    pub(crate) fn streams(&self) -> PathBuf {
        self.state.join("stream.sock")
    }

    /// The bundle of a pod or of a container.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.state.join("bundles").join(id)
    }

    /// Where foreign shims publish.
    pub(crate) fn events(&self) -> PathBuf {
        self.state.join("events.sock")
    }

    /// Where layers are mounted.
    pub(crate) fn layers(&self) -> PathBuf {
        self.state.join("layers")
    }

    /// The sockets of pods' companions.
    pub(crate) fn companions(&self) -> PathBuf {
        self.state.join("companions")
    }

    /// The socket of a pod's companion. A part of the id names it: such paths are short.
    pub(crate) fn companion(&self, id: &str) -> PathBuf {
        self.companions().join(id.get(..SHORT).unwrap_or(id))
    }

    /// The root file system of sandbox containers.
    pub(crate) fn pause(&self) -> PathBuf {
        self.root.join("pause")
    }

    /// The pinned network namespaces.
    pub(crate) fn netns_directory(&self) -> PathBuf {
        self.state.join("netns")
    }

    /// A pod's network namespace.
    pub(crate) fn netns(&self, id: &str) -> PathBuf {
        self.netns_directory().join(id)
    }

    /// The images.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// What some images have on top of their layers.
    pub(crate) fn parents(&self) -> PathBuf {
        self.root.join("parents")
    }

    /// What a container has written, and its volumes.
    pub(crate) fn container(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// All containers' directories.
    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }
}
