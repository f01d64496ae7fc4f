//! Which attributes a directory of merged layers has to have (pure).

use std::collections::{BTreeMap, BTreeSet};

use erofs::Meta;

use super::Parent;

/// How a layer has a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// As a directory.
    Directory {
        /// What the layer says of it; none: it is implied.
        meta: Option<Meta>,
        /// Whether it hides what lower layers have in it.
        opaque: bool,
    },
    /// As something else, a whiteout for instance.
    Other,
}

/// What a layer has of the paths that are asked for.
pub(super) type Layer = BTreeMap<Vec<u8>, State>;

/// What the layers of an image have.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Paths that are implied in some layer.
    implied: BTreeSet<Vec<u8>>,
    /// Those, and all above them.
    asked: BTreeSet<Vec<u8>>,
    /// The lowest one first.
    layers: Vec<Layer>,
}

/// What is known of a directory of the merged layers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Merged {
    /// There is none.
    Missing,
    /// Its topmost layer describes it, or nobody does.
    As(Meta),
    /// Its topmost layer implies it, and a lower one describes it.
    Below(Meta),
}

impl Table {
    /// Asks for a path that some layer implies.
    pub(super) fn ask(&mut self, path: Vec<u8>) {
        self.asked.extend(above(&path).map(<[u8]>::to_vec));
        self.asked.insert(path.clone());
        self.implied.insert(path);
    }

    pub(super) fn is_asked(&self, path: &[u8]) -> bool {
        self.asked.contains(path)
    }

    /// Adds a layer on top of those before.
    pub(super) fn push(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    /// The directories that need other attributes, and those above them, sorted.
    pub(super) fn parents(&self) -> Vec<Parent> {
        let mut needed = BTreeSet::new();
        for path in &self.implied {
            if matches!(self.merged(path), Merged::Below(_)) {
                needed.extend(above(path));
                needed.insert(path);
            }
        }
        let parent = |path: &[u8]| match self.merged(path) {
            Merged::As(meta) | Merged::Below(meta) => Some(Parent { path: path.to_vec(), meta }),
            Merged::Missing => None,
        };
        needed.into_iter().filter_map(parent).collect()
    }

    /// What a path is once all layers lie over each other.
    fn merged(&self, path: &[u8]) -> Merged {
        let nobody = Meta { mode: 0o755, ..Meta::default() };
        let mut is_there = false;
        for layer in self.layers.iter().rev() {
            let hides = hidden(layer, path);
            if hides == Hides::Itself {
                break;
            }
            match layer.get(path) {
                Some(State::Other) => break,
                Some(State::Directory { meta: Some(meta), .. }) => return said(meta, is_there),
                Some(State::Directory { meta: None, .. }) => is_there = true,
                None => {}
            }
            if hides == Hides::Below {
                break;
            }
        }
        if is_there { Merged::As(nobody) } else { Merged::Missing }
    }
}

/// A directory of which a layer says this; `below` one that implies it, or not.
fn said(meta: &Meta, below: bool) -> Merged {
    let merged = if below { Merged::Below } else { Merged::As };
    merged(meta.clone())
}

/// What a layer hides of a path by what it has above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hides {
    Nothing,
    /// What lower layers have there.
    Below,
    /// All: it can't have anything there itself.
    Itself,
}

fn hidden(layer: &Layer, path: &[u8]) -> Hides {
    let mut hides = Hides::Nothing;
    for above in std::iter::once(&b""[..]).chain(above(path)) {
        match layer.get(above) {
            Some(State::Other) => return Hides::Itself,
            Some(State::Directory { opaque: true, .. }) => hides = Hides::Below,
            _ => {}
        }
    }
    hides
}

/// The paths above a path, but for the root's, from the top on.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.filter_map(|(at, _)| path.get(..at))
}
