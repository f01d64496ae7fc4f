//! An archive of a layer, from its EROFS image.
//!
//! Directories come first, each before what is in it. Files follow in the order of their content in
//! the image. So a new image has it in the same order, and a disk is read forwards. Hard links
//! follow the first name of their file.

use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};

use erofs::{Inode, Kind, Limits, Name, Names, Piece, ReadError, Reader, Special};

use super::entry::{self, Content, Entry};

/// Before the name of what lower layers lose (OCI image specification, "layer.md", "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// The name of the mark of an opaque directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Headers, content and padding are multiples of this.
const BLOCK: u64 = 512;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Why a layer has no archive.
#[derive(Debug)]
pub(super) enum LayerFault {
    Read(ReadError),
    Write(io::Error),
    Entry { path: String, reason: &'static str },
}

impl From<ReadError> for LayerFault {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Writes the archive of an image.
pub(super) fn write(image: impl Read + Seek, out: &mut impl Write) -> Result<(), LayerFault> {
    let mut reader = Reader::open(image)?;
    let names = reader.tree(&Limits::default())?;
    let root = reader.root()?;
    let mut archive = Archive { reader, names: &names, first: HashMap::new(), out };
    archive.opaque_mark(b"", &root)?;
    for name in names.all.iter().filter(|name| name.is_directory) {
        archive.name(name)?;
    }
    let mut others: Vec<_> = names.all.iter().filter(|name| !name.is_directory).collect();
    // The sort is stable: names of one file stay in order.
    others.sort_by_key(|name| name.content);
    for name in others {
        archive.name(name)?;
    }
    let end = [0; 2 * 512];
    archive.out.write_all(&end).and_then(|()| archive.out.flush()).map_err(LayerFault::Write)
}

struct Archive<'a, R, W> {
    reader: Reader<R>,
    names: &'a Names,
    /// The first path of each file that has several.
    first: HashMap<u64, Vec<u8>>,
    out: &'a mut W,
}

impl<R: Read + Seek, W: Write> Archive<'_, R, W> {
    /// Writes what a name leads to.
    fn name(&mut self, name: &Name) -> Result<(), LayerFault> {
        let path = self.names.path(name);
        let inode = self.reader.inode(name.nid)?;
        if last(&path).starts_with(WHITEOUT) {
            return Err(fault(&path, "an archive would hide a file by this name"));
        }
        match inode.kind {
            // So that what lies below describes it again.
            Kind::Directory if inode.implied => return self.opaque_mark(&path, &inode),
            Kind::Directory => {
                self.entry(&[&path, &b"/"[..]].concat(), &inode, Content::Directory)?;
                return self.opaque_mark(&path, &inode);
            }
            Kind::Special(Special::Character { major: 0, minor: 0 }) => {
                return self.mark(&beside(&path, &[WHITEOUT, last(&path)].concat()));
            }
            _ => {}
        }
        if inode.links > 1 {
            if let Some(first) = self.first.get(&name.nid).cloned() {
                return self.entry(&path, &inode, Content::HardLink(&first));
            }
            self.first.insert(name.nid, path.clone());
        }
        match inode.kind {
            Kind::Symlink => {
                let target = self.small(&inode)?;
                self.entry(&path, &inode, Content::Symlink(&target))
            }
            Kind::Special(special) => self.entry(&path, &inode, Content::Special(special)),
            Kind::File | Kind::Directory => self.file(&path, &inode),
        }
    }

    fn file(&mut self, path: &[u8], inode: &Inode) -> Result<(), LayerFault> {
        let pieces = self.reader.pieces(inode)?;
        let sparse = entry::is_sparse(&pieces, inode.size);
        self.entry(path, inode, Content::File { pieces: &pieces, sparse })?;
        let mut at = 0;
        for piece in &pieces {
            if !sparse {
                self.zeros(piece.start - at)?;
            }
            self.piece(*piece)?;
            at = piece.start + piece.len;
        }
        let stored: u64 = pieces.iter().map(|piece| piece.len).sum();
        if !sparse {
            self.zeros(inode.size - at)?;
        }
        let written = if sparse { stored } else { inode.size };
        self.zeros(written.next_multiple_of(BLOCK) - written)
    }

    fn piece(&mut self, piece: Piece) -> Result<(), LayerFault> {
        let Self { reader, out, .. } = self;
        reader.content(piece, |bytes| out.write_all(bytes).map_err(LayerFault::Write))
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), LayerFault> {
        while count > 0 {
            let some = usize::try_from(count).map_or(ZEROS.len(), |count| count.min(ZEROS.len()));
            self.out.write_all(&ZEROS[..some]).map_err(LayerFault::Write)?;
            count -= some as u64;
        }
        Ok(())
    }

    /// The content of a link.
    fn small(&mut self, inode: &Inode) -> Result<Vec<u8>, LayerFault> {
        let mut all = Vec::new();
        for piece in self.reader.pieces(inode)? {
            self.reader.content(piece, |bytes| {
                all.extend_from_slice(bytes);
                Ok::<_, ReadError>(())
            })?;
        }
        Ok(all)
    }

    /// Marks a directory that hides what lower layers have in it.
    fn opaque_mark(&mut self, path: &[u8], inode: &Inode) -> Result<(), LayerFault> {
        let mut all = inode.xattrs.iter();
        if !all.any(|(name, value)| name == b"trusted.overlay.opaque" && value == b"y") {
            return Ok(());
        }
        let path = if path.is_empty() { OPAQUE.to_vec() } else { [path, b"/", OPAQUE].concat() };
        self.mark(&path)
    }

    fn mark(&mut self, path: &[u8]) -> Result<(), LayerFault> {
        self.put(path, &Entry { path, meta: None, content: Content::Mark })
    }

    fn entry(
        &mut self,
        path: &[u8],
        inode: &Inode,
        content: Content<'_>,
    ) -> Result<(), LayerFault> {
        self.put(path, &Entry { path, meta: Some(inode), content })
    }

    fn put(&mut self, path: &[u8], entry: &Entry<'_>) -> Result<(), LayerFault> {
        let headers = entry.headers().map_err(|reason| fault(path, reason))?;
        self.out.write_all(&headers).map_err(LayerFault::Write)
    }
}

fn fault(path: &[u8], reason: &'static str) -> LayerFault {
    let shown: Vec<u8> = path.iter().take(256).copied().collect();
    LayerFault::Entry { path: shown.escape_ascii().to_string(), reason }
}

/// The last name of a path.
fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// The path of another name in the same directory.
fn beside(path: &[u8], name: &[u8]) -> Vec<u8> {
    let end = path.len() - last(path).len();
    [&path[..end], name].concat()
}
