//! Changes of rows, and the view that shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use redb::WriteTransaction;

use super::database::Rows;
use super::error::StoreError;
use super::image::{self, Image, ImageLayer};
use super::memory::Memory;
use super::tables::{self, Everything, Row};
use super::view::View;
use super::{Shared, Store, not_found, step};
use crate::digest::Digest;
use crate::reference::Reference;

impl Store {
    /// Gives an image one more tag, which another image may lose by it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and [`StoreError::TooManyNames`].
    pub fn tag(&self, id: &Digest, name: &Reference) -> Result<(), StoreError> {
        let _writer = self.0.writer()?;
        self.0.check_names(id, std::slice::from_ref(name))?;
        self.0.view().get(id).ok_or_else(|| not_found(id))?;
        self.0.change("adding a name", |rows| tables::tag(rows, id, name))
    }

    /// Takes a name from its image, which stays, and is returned as it is then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if no image has that name.
    pub fn untag(&self, name: &Reference) -> Result<Arc<Image>, StoreError> {
        let missing = || StoreError::NotFound { name: name.to_string() };
        let _writer = self.0.writer()?;
        let id = self.0.view().named(name).ok_or_else(missing)?.id.clone();
        self.0.change_with_room("removing a name", |rows| tables::untag(rows, name))?;
        self.0.view().get(&id).cloned().ok_or_else(missing)
    }

    /// Says whether an image is to stay when nothing uses it. A removal by its name or id does
    /// not ask for that, as containerd's.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such image.
    pub fn set_pinned(&self, id: &Digest, pinned: bool) -> Result<(), StoreError> {
        let _writer = self.0.writer()?;
        self.0.view().get(id).ok_or_else(|| not_found(id))?;
        self.0.change("pinning an image", |rows| tables::set_pinned(rows, id, pinned))
    }

    /// Waits until all layers are on the disk, and notes that. Call it after a pull has answered:
    /// a machine that loses power before needs to pull the image again. Returns how many layers
    /// it was.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the disk refuses a layer. Its images are removed then: the kernel may
    /// have thrown their content away.
    pub fn settle(&self) -> Result<usize, StoreError> {
        let waiting = {
            let memory = self.0.memory();
            let waiting = memory.layers.iter().filter(|(_, layer)| !layer.boot.is_empty());
            waiting.map(|(diff_id, _)| diff_id.clone()).collect::<Vec<_>>()
        };
        // A lease keeps the files in place without keeping others from changing the store.
        let lease = self.lease();
        let mut settled = Vec::new();
        for diff_id in waiting.into_iter().filter(|diff_id| lease.find(diff_id)) {
            let file = self.0.files.open_layer(&diff_id)?;
            match self.0.files.sync(&diff_id, &file) {
                Ok(measure) => {
                    self.0.files.sync_name(&diff_id)?;
                    settled.push((diff_id, measure));
                }
                Err(error) => {
                    drop(lease);
                    self.0.distrust(&diff_id)?;
                    return Err(error);
                }
            }
        }
        if settled.is_empty() {
            return Ok(0);
        }
        let _writer = self.0.writer()?;
        let diff_ids: Vec<_> = settled.iter().map(|(diff_id, _)| diff_id.clone()).collect();
        self.0.change("noting layers as written", |rows| tables::settle(rows, &diff_ids))?;
        let mut memory = self.0.memory();
        for (diff_id, measure) in settled {
            if let Some(layer) = memory.layers.get_mut(&diff_id) {
                (layer.boot, layer.measure) = (String::new(), measure);
            }
        }
        Ok(diff_ids.len())
    }
}

impl Shared {
    /// Changes rows and shows the outcome. The caller has the writer.
    ///
    /// After a failure the rows are read again too: it may be that they are changed.
    pub(super) fn change(
        &self,
        doing: &'static str,
        change: impl FnOnce(&WriteTransaction) -> Rows<()>,
    ) -> Result<(), StoreError> {
        let touched = {
            let mut memory = self.memory();
            memory.stale = true;
            memory.touched()
        };
        step();
        let changed = self.database.write(doing, |rows| {
            for (id, used) in &touched {
                tables::set_used(rows, id, *used)?;
            }
            change(rows)
        });
        step();
        let published = match self.publish() {
            // Opening the database again may need room too.
            Err(error) if error.is_full() && self.files.give_room()? => self.publish(),
            published => published,
        };
        changed.and(published)
    }

    /// A change that makes room, so that it must not fail for want of it.
    pub(super) fn change_with_room(
        &self,
        doing: &'static str,
        change: impl Fn(&WriteTransaction) -> Rows<()>,
    ) -> Result<(), StoreError> {
        match self.change(doing, &change) {
            Err(error) if error.is_full() && self.files.give_room()? => self.change(doing, change),
            changed => changed,
        }
    }

    /// An image keeps a bounded number of names.
    pub(super) fn check_names(&self, id: &Digest, new: &[Reference]) -> Result<(), StoreError> {
        let view = self.view();
        let old =
            view.get(id).into_iter().flat_map(|image| image.tags.iter().chain(&image.digests));
        let found = old.chain(new).collect::<BTreeSet<_>>().len();
        if found > image::MAX_NAMES {
            return Err(StoreError::TooManyNames {
                id: id.clone(),
                found,
                limit: image::MAX_NAMES,
            });
        }
        Ok(())
    }

    /// Makes the view of what the rows say.
    pub(super) fn publish(&self) -> Result<(), StoreError> {
        let rows = self.database.read("reading the images", tables::read)?;
        let mut memory = self.memory();
        let view = self.shown(&rows, &mut memory)?;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        memory.stale = false;
        Ok(())
    }

    fn shown(&self, rows: &Everything, memory: &mut Memory) -> Result<View, StoreError> {
        let damaged = |what: &str| StoreError::Damaged {
            path: self.files.database(),
            reason: format!("a row has no valid {what}"),
        };
        let mut names: BTreeMap<&str, Vec<Reference>> = BTreeMap::new();
        for (name, id) in &rows.names {
            let name = name.parse().map_err(|_| damaged("name"))?;
            names.entry(id).or_default().push(name);
        }
        let sizes: BTreeMap<_, _> =
            rows.layers.iter().map(|layer| (layer.diff_id.as_str(), layer.size)).collect();
        let (mut visible, mut hidden, mut here) = (Vec::new(), Vec::new(), BTreeSet::new());
        for row in &rows.images {
            let names = names.remove(row.id.as_str()).unwrap_or_default();
            let image = shown(row, names, &sizes, memory).ok_or_else(|| damaged("digest"))?;
            here.insert(image.id.clone());
            if row.hidden { hidden.push(image) } else { visible.push(image) }
        }
        memory.keep_images(&here);
        Ok(View::new(visible, hidden))
    }

    /// The layers that images have, and hidden ones.
    pub(super) fn referenced(&self) -> BTreeSet<Digest> {
        let view = self.view();
        let all = view.images().chain(view.hidden());
        all.flat_map(|image| &image.layers).map(|layer| layer.diff_id.clone()).collect()
    }
}

fn shown(
    row: &Row,
    names: Vec<Reference>,
    sizes: &BTreeMap<&str, u64>,
    memory: &mut Memory,
) -> Option<Image> {
    let id: Digest = row.id.parse().ok()?;
    let size = |diff_id: &str| sizes.get(diff_id).copied().unwrap_or_default();
    let layers = row.layers.iter().map(|(diff_id, compressed)| {
        let (size, compressed) = (size(diff_id), *compressed);
        Some(ImageLayer { diff_id: diff_id.parse().ok()?, size, compressed })
    });
    let (tags, digests) = names.into_iter().partition(|name| name.tag().is_some());
    let unique: BTreeSet<_> = row.layers.iter().map(|(diff_id, _)| diff_id.as_str()).collect();
    Some(Image {
        tags,
        digests,
        layers: layers.collect::<Option<_>>()?,
        platform: image::platform(&row.platform),
        user: row.user.clone(),
        pinned: row.pinned,
        created: image::time(row.created),
        size: unique.into_iter().map(size).sum::<u64>() + row.config,
        used: memory.used(&id, row.used),
        id,
    })
}
