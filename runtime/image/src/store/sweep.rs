//! Cleaning up when the store is opened: after a process that was killed, or a machine that lost
//! power.

use std::collections::BTreeSet;
use std::fmt;

use super::error::StoreError;
use super::memory::LayerFile;
use super::tables::{self, LayerRow};
use super::{Shared, step};
use crate::digest::Digest;
use crate::reference::Reference;

/// What was not as it should be when the store was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Images that are removed, because a layer of them can't be used.
    pub broken: Vec<Broken>,
    /// How many files were deleted that nobody needed.
    pub deleted: usize,
}

/// An image that can't be used. Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The image.
    pub id: Digest,
    /// What it was called.
    pub names: Vec<Reference>,
    /// The first of its layers that can't be used.
    pub layer: Digest,
    /// Why not.
    pub problem: Problem,
}

/// Why a layer can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It has no file.
    Gone,
    /// Its file has another length than it was made with.
    Length {
        /// The length that it was made with, in bytes.
        expected: u64,
        /// Its length now, in bytes.
        found: u64,
    },
    /// The machine stopped before the disk had all of it.
    Unsettled,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => formatter.write_str("has no file"),
            Self::Length { expected, found } => {
                write!(formatter, "has {found} bytes and was made with {expected}")
            }
            Self::Unsettled => formatter.write_str("was not on the disk when the machine stopped"),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, names, layer, problem } = self;
        write!(formatter, "image {id} is removed, because its layer {layer} {problem}: ")?;
        match names.first() {
            Some(name) => write!(formatter, "pull {name} again"),
            None => formatter.write_str("pull it again if it is needed"),
        }
    }
}

impl Shared {
    /// Learns which layers are here, and puts right what is not as it should be.
    pub(super) fn sweep(&self) -> Result<Findings, StoreError> {
        let mut deleted = self.files.clear_staging()?;
        step();
        self.publish()?;
        let rows = self.database.read("reading the layers", tables::read)?;
        let mut bad = Vec::new();
        for row in &rows.layers {
            bad.extend(self.meet(row)?);
        }
        let broken = self.broken(&bad);
        if !bad.is_empty() || !broken.is_empty() {
            let gone: Vec<_> = bad.iter().map(|(diff_id, _)| diff_id.clone()).collect();
            self.change_with_room("removing broken images", |rows| {
                tables::forget_layers(rows, &gone)?;
                broken.iter().try_for_each(|image| tables::hide(rows, &image.id))
            })?;
        }
        for diff_id in self.files.layers()? {
            let known = self.memory().layers.contains_key(&diff_id);
            if !known {
                step();
                self.files.unlink(&diff_id)?;
                deleted += 1;
            }
        }
        // A full disk must not keep the daemon from starting: it is asked for images to remove.
        let _ = self.files.set_aside();
        Ok(Findings { broken, deleted })
    }

    /// Remembers a layer, or says what is wrong with it.
    fn meet(&self, row: &LayerRow) -> Result<Option<(Digest, Problem)>, StoreError> {
        let diff_id: Digest = row.diff_id.parse().map_err(|_| StoreError::Damaged {
            path: self.files.database(),
            reason: "a layer's row has no valid digest".to_owned(),
        })?;
        let problem = match self.files.measure(&diff_id)? {
            None => Problem::Gone,
            Some(found) if found.size != row.size => {
                Problem::Length { expected: row.size, found: found.size }
            }
            Some(_) if !row.boot.is_empty() && row.boot != self.boot => Problem::Unsettled,
            Some(measure) => {
                let file = LayerFile::new(measure, row.boot.clone());
                self.memory().keep(&diff_id, file);
                return Ok(None);
            }
        };
        Ok(Some((diff_id, problem)))
    }

    /// The images that have a layer which can't be used.
    fn broken(&self, bad: &[(Digest, Problem)]) -> Vec<Broken> {
        let here: BTreeSet<_> = self.memory().layers.keys().cloned().collect();
        let view = self.view();
        let broken = view.images().filter_map(|image| {
            let lost = image.layers.iter().find(|layer| !here.contains(&layer.diff_id))?;
            let known = bad.iter().find(|(diff_id, _)| *diff_id == lost.diff_id);
            Some(Broken {
                id: image.id.clone(),
                names: image.tags.iter().chain(&image.digests).cloned().collect(),
                layer: lost.diff_id.clone(),
                problem: known.map_or(Problem::Gone, |(_, problem)| *problem),
            })
        });
        broken.collect()
    }
}
