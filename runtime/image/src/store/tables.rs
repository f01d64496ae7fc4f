//! The rows: which tables there are, and the few ways in which they change.

use std::collections::BTreeSet;

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableHandle, WriteTransaction};

use super::database::{Database, Rows};
use super::error::StoreError;
use super::image::Checked;
use crate::digest::Digest;
use crate::reference::Reference;

/// Of the tables' form. A store of a newer one is not opened.
pub(super) const VERSION: u64 = 1;

const VERSION_KEY: &str = "version";

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Id → the image.
pub(super) const IMAGES: TableDefinition<'_, &str, ImageRow<'_>> = TableDefinition::new("images");
/// Id → the configuration's bytes.
const CONFIGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("configs");
/// Id and place from below → diff id, and bytes that were pulled.
const IMAGE_LAYERS: TableDefinition<'_, (&str, u32), (&str, u64)> =
    TableDefinition::new("image layers");
/// Whole reference, by tag or digest → id.
const NAMES: TableDefinition<'_, &str, &str> = TableDefinition::new("names");
/// Diff id → the file's length, and the boot of the machine that its content is only known to be
/// whole in. Empty: it is on the disk.
pub(super) const LAYERS: TableDefinition<'_, &str, (u64, &str)> = TableDefinition::new("layers");

/// Platform, user, seconds of creation and of last use, pinned, hidden.
///
/// A hidden image was removed while a container used it, or lost a layer. Its layers are kept
/// until its last use ends, which may be after the next start of the daemon.
type ImageRow<'a> = (&'a str, &'a str, u64, u64, bool, bool);

/// An image's row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) platform: String,
    pub(super) user: String,
    pub(super) created: u64,
    pub(super) used: u64,
    pub(super) pinned: bool,
    pub(super) hidden: bool,
    pub(super) config: u64,
    pub(super) layers: Vec<(String, u64)>,
}

/// A layer's row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayerRow {
    pub(super) diff_id: String,
    pub(super) size: u64,
    pub(super) boot: String,
}

/// Everything but the configurations.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Everything {
    pub(super) images: Vec<Row>,
    /// References and ids.
    pub(super) names: Vec<(String, String)>,
    pub(super) layers: Vec<LayerRow>,
}

/// Makes the tables of a new database, or learns the version of an old one.
pub(super) fn prepare(database: &Database) -> Result<u64, StoreError> {
    let found = database.read("reading the version", |rows| {
        let tables: Vec<_> = rows.list_tables()?.map(|table| table.name().to_owned()).collect();
        if !tables.iter().any(|name| name == META.name()) {
            return Ok((tables.is_empty(), None));
        }
        Ok((false, rows.open_table(META)?.get(VERSION_KEY)?.map(|version| version.value())))
    })?;
    match found {
        (true, _) => {}
        (false, Some(version)) => return Ok(version),
        (false, None) => {
            let reason = "it has no version".to_owned();
            return Err(StoreError::Damaged { path: database.path().to_owned(), reason });
        }
    }
    database.write("creating the tables", |rows| {
        rows.open_table(IMAGES)?;
        rows.open_table(CONFIGS)?;
        rows.open_table(IMAGE_LAYERS)?;
        rows.open_table(NAMES)?;
        rows.open_table(LAYERS)?;
        rows.open_table(META)?.insert(VERSION_KEY, VERSION)?;
        Ok(VERSION)
    })
}

pub(super) fn read(rows: &ReadTransaction) -> Rows<Everything> {
    let mut all = Everything::default();
    let (configs, layers) = (rows.open_table(CONFIGS)?, rows.open_table(IMAGE_LAYERS)?);
    for entry in rows.open_table(IMAGES)?.iter()? {
        let (key, value) = entry?;
        let (platform, user, created, used, pinned, hidden) = value.value();
        let id = key.value();
        let mut own = Vec::new();
        for entry in layers.range((id, 0)..=(id, u32::MAX))? {
            let (_, value) = entry?;
            let (diff_id, compressed) = value.value();
            own.push((diff_id.to_owned(), compressed));
        }
        all.images.push(Row {
            id: id.to_owned(),
            platform: platform.to_owned(),
            user: user.to_owned(),
            created,
            used,
            pinned,
            hidden,
            config: configs.get(id)?.map_or(0, |config| config.value().len() as u64),
            layers: own,
        });
    }
    for entry in rows.open_table(NAMES)?.iter()? {
        let (name, id) = entry?;
        all.names.push((name.value().to_owned(), id.value().to_owned()));
    }
    for entry in rows.open_table(LAYERS)?.iter()? {
        let (diff_id, value) = entry?;
        let (size, boot) = value.value();
        let diff_id = diff_id.value().to_owned();
        all.layers.push(LayerRow { diff_id, size, boot: boot.to_owned() });
    }
    Ok(all)
}

pub(super) fn config(rows: &ReadTransaction, id: &Digest) -> Rows<Option<Vec<u8>>> {
    Ok(rows.open_table(CONFIGS)?.get(id.as_str())?.map(|config| config.value().to_vec()))
}

/// What an image's addition writes.
#[derive(Debug)]
pub(super) struct Addition<'a> {
    pub(super) image: &'a Checked,
    pub(super) config: &'a [u8],
    pub(super) names: &'a [Reference],
    pub(super) pinned: bool,
    pub(super) now: u64,
    pub(super) layers: &'a [LayerRow],
}

/// Adds an image, or makes a hidden one visible again. Names move to it.
pub(super) fn add(rows: &WriteTransaction, new: &Addition<'_>) -> Rows<()> {
    let image = new.image;
    let id = image.id.as_str();
    let mut images = rows.open_table(IMAGES)?;
    let before = images.get(id)?.map(|row| (row.value().2, row.value().4, row.value().5));
    let (created, pinned) = match before {
        Some((created, pinned, false)) => (created, pinned || new.pinned),
        _ => (new.now, new.pinned),
    };
    let row = (image.platform.as_str(), image.user.as_str(), created, new.now, pinned, false);
    images.insert(id, row)?;
    rows.open_table(CONFIGS)?.insert(id, new.config)?;
    let mut layers = rows.open_table(IMAGE_LAYERS)?;
    for (place, (diff_id, compressed)) in (0..).zip(&image.layers) {
        layers.insert((id, place), (diff_id.as_str(), *compressed))?;
    }
    let mut files = rows.open_table(LAYERS)?;
    for layer in new.layers {
        files.insert(layer.diff_id.as_str(), (layer.size, layer.boot.as_str()))?;
    }
    let mut names = rows.open_table(NAMES)?;
    for name in new.names {
        names.insert(name.to_string().as_str(), id)?;
    }
    Ok(())
}

/// Gives an image one more name, which another one may have had.
pub(super) fn tag(rows: &WriteTransaction, id: &Digest, name: &Reference) -> Rows<()> {
    rows.open_table(NAMES)?.insert(name.to_string().as_str(), id.as_str())?;
    Ok(())
}

/// Takes a name away.
pub(super) fn untag(rows: &WriteTransaction, name: &Reference) -> Rows<()> {
    rows.open_table(NAMES)?.remove(name.to_string().as_str())?;
    Ok(())
}

fn change_image(
    rows: &WriteTransaction,
    id: &str,
    change: impl FnOnce(&mut ImageRow<'_>),
) -> Rows<()> {
    let mut images = rows.open_table(IMAGES)?;
    let Some(row) = images.get(id)?.map(|row| {
        let (platform, user, created, used, pinned, hidden) = row.value();
        (platform.to_owned(), user.to_owned(), created, used, pinned, hidden)
    }) else {
        return Ok(());
    };
    let mut row = (row.0.as_str(), row.1.as_str(), row.2, row.3, row.4, row.5);
    change(&mut row);
    images.insert(id, row)?;
    Ok(())
}

pub(super) fn set_pinned(rows: &WriteTransaction, id: &Digest, pinned: bool) -> Rows<()> {
    change_image(rows, id.as_str(), |row| row.4 = pinned)
}

pub(super) fn set_used(rows: &WriteTransaction, id: &Digest, used: u64) -> Rows<()> {
    change_image(rows, id.as_str(), |row| row.3 = used)
}

/// Takes an image and all its names out of sight.
pub(super) fn hide(rows: &WriteTransaction, id: &Digest) -> Rows<()> {
    rows.open_table(NAMES)?.retain(|_, named| named != id.as_str())?;
    change_image(rows, id.as_str(), |row| (row.4, row.5) = (false, true))
}

/// Deletes the hidden images that `keep` has not, and then the layers that no image has.
pub(super) fn forget(rows: &WriteTransaction, keep: &BTreeSet<Digest>) -> Rows<()> {
    let keep: BTreeSet<_> = keep.iter().map(Digest::as_str).collect();
    let mut left = BTreeSet::new();
    rows.open_table(IMAGES)?.retain(|id, row| {
        let stays = !row.5 || keep.contains(id);
        if stays {
            left.insert(id.to_owned());
        }
        stays
    })?;
    rows.open_table(CONFIGS)?.retain(|id, _| left.contains(id))?;
    let mut needed = BTreeSet::new();
    rows.open_table(IMAGE_LAYERS)?.retain(|(id, _), (diff_id, _)| {
        let stays = left.contains(id);
        if stays {
            needed.insert(diff_id.to_owned());
        }
        stays
    })?;
    rows.open_table(LAYERS)?.retain(|diff_id, _| needed.contains(diff_id))?;
    Ok(())
}

/// Deletes layers' rows: of files that can't be used.
pub(super) fn forget_layers(rows: &WriteTransaction, bad: &[Digest]) -> Rows<()> {
    let mut layers = rows.open_table(LAYERS)?;
    for diff_id in bad {
        layers.remove(diff_id.as_str())?;
    }
    Ok(())
}

/// Notes that layers are on the disk.
pub(super) fn settle(rows: &WriteTransaction, settled: &[Digest]) -> Rows<()> {
    let mut layers = rows.open_table(LAYERS)?;
    for diff_id in settled {
        let size = layers.get(diff_id.as_str())?.map(|row| row.value().0);
        if let Some(size) = size {
            layers.insert(diff_id.as_str(), (size, ""))?;
        }
    }
    Ok(())
}
