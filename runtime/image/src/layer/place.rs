//! What becomes of each entry in the image.

use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};

use erofs::{FileWriter, Meta, Options, Summary, Writer};

use super::archive::Archive;
use super::entry::{Content, Entry, Kind};
use super::error::{LayerError, shown};
use super::name::Place;
use super::output::Output;

/// Most names that are kept of attributes that were dropped.
const MAX_DROPPED: usize = 32;

/// Extended attributes that the image lacks: those that overlayfs would obey, and those that EROFS
/// can't keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How often, by name. Names are cut, with escapes; there are at most 32.
    pub names: BTreeMap<String, u64>,
    /// How many attributes had other names than those.
    pub others: u64,
}

impl Dropped {
    fn add(&mut self, name: &[u8]) {
        let name = shown(name);
        if let Some(count) = self.names.get_mut(&name) {
            *count += 1;
        } else if self.names.len() < MAX_DROPPED {
            self.names.insert(name, 1);
        } else {
            self.others += 1;
        }
    }
}

/// An image that gets entries.
#[derive(Debug)]
pub(super) struct Placement<W: Write + Seek> {
    writer: Writer<Output<W>>,
    dropped: Dropped,
}

impl<W: Write + Seek> Placement<W> {
    pub(super) fn new(output: W, options: Options) -> Result<Self, LayerError> {
        let writer = Writer::new(Output::new(output), options).map_err(|error| match error {
            erofs::Error::Io(source) => LayerError::Output { what: "the start".to_owned(), source },
            error => LayerError::End(error),
        })?;
        Ok(Self { writer, dropped: Dropped::default() })
    }

    /// Puts an entry into the image, with its content from the archive.
    ///
    /// # Errors
    /// [`LayerError`].
    pub(super) fn put<R: Read>(
        &mut self,
        entry: Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), LayerError> {
        let Entry { path: in_archive, kind, meta, stored: _, dropped } = entry;
        let place = Place::new(&in_archive).map_err(|problem| {
            let path = shown(&in_archive);
            LayerError::Entry { path, problem }
        })?;
        let refused = |error| LayerError::of_entry(&in_archive, error);
        match place {
            Place::Root | Place::LeftOut => Ok(()),
            Place::Whiteout(path) => {
                let path = self.writer.follow(&path).map_err(refused)?;
                self.writer.whiteout(&path).map_err(refused)
            }
            Place::Opaque(path) => {
                let path = self.writer.follow(&path).map_err(refused)?;
                let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or_default();
                self.writer.opaque(&path[..end]).map_err(refused)
            }
            Place::Entry(path) => {
                dropped.iter().for_each(|name| self.dropped.add(name));
                let path = self.writer.follow(&path).map_err(refused)?;
                if let Kind::File(content) = kind {
                    return self.file((&in_archive, &path), meta, content, archive);
                }
                self.put_simple(&path, kind, meta).map_err(refused)
            }
        }
    }

    fn put_simple(&mut self, path: &[u8], kind: Kind, meta: Meta) -> Result<(), erofs::Error> {
        match kind {
            Kind::Directory => self.writer.directory(path, meta),
            Kind::Symlink(target) => self.writer.symlink(path, &target, meta),
            Kind::HardLink(target) => {
                let target = self.writer.follow(&target)?;
                self.writer.hard_link(path, &target)
            }
            Kind::Special(special) => self.writer.special(path, special, meta),
            // Files have content, and are put by another function.
            Kind::File(_) => Ok(()),
        }
    }

    fn file<R: Read>(
        &mut self,
        (in_archive, path): (&[u8], &[u8]),
        meta: Meta,
        content: Content,
        archive: &mut Archive<R>,
    ) -> Result<(), LayerError> {
        let refused = |error| LayerError::of_entry(in_archive, error);
        let mut file = self.writer.file(path, meta, content.size).map_err(refused)?;
        let mut at = 0;
        for (start, len) in content.pieces {
            file.hole(start - at).map_err(refused)?;
            archive.content(len, |bytes| write(&mut file, bytes).map_err(refused))?;
            at = start + len;
        }
        file.hole(content.size - at).map_err(refused)?;
        file.finish().map_err(refused)
    }

    /// Ends the image.
    ///
    /// # Errors
    /// [`LayerError::End`] or [`LayerError::Output`].
    pub(super) fn finish(self) -> Result<(Summary, Dropped), LayerError> {
        let summary = self.writer.finish().map_err(|error| match error {
            erofs::Error::Io(source) => LayerError::Output { what: "the end".to_owned(), source },
            error => LayerError::End(error),
        })?;
        Ok((summary, self.dropped))
    }
}

fn write<W: Write + Seek>(file: &mut FileWriter<'_, W>, bytes: &[u8]) -> Result<(), erofs::Error> {
    file.write_all(bytes).map_err(erofs::Error::from)
}
