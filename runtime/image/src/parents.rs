//! Directories that no entry of a layer describes, although it has something in them. containerd
//! makes one as the layers below have it (`mkparent` in its `pkg/archive/tar.go`). A layer is
//! converted alone, and many images have it. So its EROFS image only marks such a directory, and an
//! image whose layers have one gets one more small layer on top:
//!
//! ```text
//!   tmp/            0755  from the layers' merge, as overlayfs would have it    ◄─ replaced by
//!   layer 2: tmp/x        "tmp" is implied: 0755, root
//!   layer 1: tmp/   1777  described                                             ─► tmp/ 1777
//! ```
//!
//! That layer has the directories alone, with the attributes of the layer below that describes them,
//! and those above them as they are anyway. It follows from the image's layers.

mod state;

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use erofs::{Inode, Limits, Meta, Options, ReadError, Reader, Writer, Xattrs};

use state::{Layer, Table};

/// Why an image has no such layer.
#[derive(Debug, thiserror::Error)]
pub enum ParentsError {
    /// A layer can't be opened.
    #[error("opening layer {path}")]
    Open {
        /// The layer's file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A layer can't be read.
    #[error("reading layer {path}")]
    Read {
        /// The layer's file.
        path: PathBuf,
        /// Why not.
        source: ReadError,
    },
    /// The new layer can't be written.
    #[error("writing the layer of implied directories")]
    Write(#[from] erofs::Error),
}

/// A directory that needs other attributes than the merged layers give it, or is above one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its path, without a slash at its start.
    pub path: Vec<u8>,
    /// What it has to have.
    pub meta: Meta,
}

/// The directories of an image, sorted by their paths; none for most. `layers` are its EROFS files,
/// the lowest one first. Layers without an implied directory cost no more than a look at each.
///
/// # Errors
/// [`ParentsError`].
pub fn find(layers: &[PathBuf]) -> Result<Vec<Parent>, ParentsError> {
    find_in(open(layers)?)
}

/// Whether a layer has a directory that it only implies: [`find`] may find something then.
///
/// # Errors
/// [`ParentsError`].
pub fn any(layers: &[PathBuf]) -> Result<bool, ParentsError> {
    for (path, file) in open(layers)? {
        if reader(&path, file)?.has_implied() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The files of these layers.
pub(crate) fn open(layers: &[PathBuf]) -> Result<Vec<(PathBuf, File)>, ParentsError> {
    let open = |path: &PathBuf| match File::open(path) {
        Ok(file) => Ok((path.clone(), file)),
        Err(source) => Err(ParentsError::Open { path: path.clone(), source }),
    };
    layers.iter().map(open).collect()
}

fn reader(path: &Path, file: File) -> Result<Reader<File>, ParentsError> {
    Reader::open(file).map_err(|source| read_error(path, source))
}

/// As [`find`], with files that are open.
pub(crate) fn find_in(layers: Vec<(PathBuf, File)>) -> Result<Vec<Parent>, ParentsError> {
    let mut readers = Vec::new();
    for (path, file) in layers {
        let reader = reader(&path, file)?;
        readers.push((path, reader));
    }
    if !readers.iter().any(|(_, reader)| reader.has_implied()) {
        return Ok(Vec::new());
    }
    let mut table = Table::default();
    for (path, reader) in readers.iter_mut().filter(|(_, reader)| reader.has_implied()) {
        implied(reader, &mut table).map_err(|source| read_error(path, source))?;
    }
    for (path, reader) in &mut readers {
        let layer = states(reader, &table).map_err(|source| read_error(path, source))?;
        table.push(layer);
    }
    Ok(table.parents())
}

/// Writes the layer of these directories.
///
/// # Errors
/// [`ParentsError::Write`].
pub fn write(parents: &[Parent], out: impl Write + Seek) -> Result<(), ParentsError> {
    let mut writer = Writer::new(out, Options::default())?;
    for parent in parents {
        writer.directory(&parent.path, parent.meta.clone())?;
    }
    writer.finish()?;
    Ok(())
}

fn read_error(path: &Path, source: ReadError) -> ParentsError {
    ParentsError::Read { path: path.to_owned(), source }
}

/// Notes the implied directories of a layer.
fn implied(reader: &mut Reader<File>, table: &mut Table) -> Result<(), ReadError> {
    let names = reader.tree(&Limits::default())?;
    for name in names.all.iter().filter(|name| name.is_directory) {
        if reader.inode(name.nid)?.implied {
            table.ask(names.path(name));
        }
    }
    Ok(())
}

/// How a layer has what was asked for.
fn states(reader: &mut Reader<File>, table: &Table) -> Result<Layer, ReadError> {
    let names = reader.tree(&Limits::default())?;
    let mut layer = Layer::new();
    let root = reader.root()?;
    layer.insert(Vec::new(), state(&root));
    for name in &names.all {
        let path = names.path(name);
        if !table.is_asked(&path) {
            continue;
        }
        let state = match name.is_directory {
            true => state(&reader.inode(name.nid)?),
            false => state::State::Other,
        };
        layer.insert(path, state);
    }
    Ok(layer)
}

fn state(inode: &Inode) -> state::State {
    let mut xattrs = Xattrs::default();
    let mut opaque = false;
    for (name, value) in &inode.xattrs {
        match name.strip_prefix(b"trusted.overlay.") {
            Some(rest) => opaque |= rest == b"opaque" && value == b"y",
            // What the writer has written, it takes again.
            None => drop(xattrs.set(name, value)),
        }
    }
    let Inode { mode, uid, gid, mtime, .. } = *inode;
    let meta = (!inode.implied).then_some(Meta { mode, uid, gid, mtime, xattrs });
    state::State::Directory { meta, opaque }
}

#[cfg(test)]
mod tests;
