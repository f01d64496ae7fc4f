//! The writer: what it is called with, and what becomes of each entry.

use std::io::{Seek, Write};

use crate::disk::NO_BLOCK;
use crate::error::{Error, shown};
use crate::file::FileWriter;
use crate::finish::{Summary, finish};
use crate::limits::Options;
use crate::meta::{Meta, Special};
use crate::output::Output;
use crate::plan::tail_size;
use crate::tree::{Body, Content, Rest, Spot, Tree};

/// Longest target of a symbolic link in bytes: Linux's `PATH_MAX` without its zero byte.
const MAX_TARGET: usize = 4095;

/// Writes an image.
///
/// All paths lead to places below the root of the image. A leading `/`, `.` and empty names are left
/// out; `..` takes the name before it back. Symbolic links are never followed, unless the caller asks
/// by [`Writer::follow`]. A path has at most 4095 bytes, a name at most 255, and no byte is zero.
///
/// The last entry with a path counts. It replaces the one before, with all below it. Only a
/// directory over a directory keeps what is in it, and gets new attributes. Directories above an
/// entry are made if they are missing: mode 0755, user and group 0, time 0. They are marked as
/// implied, which the root never is. An entry below what is
/// no directory is refused.
///
/// Every call may fail with [`Error::Path`], [`Error::NotADirectory`], [`Error::Limit`] and
/// [`Error::Io`]. After the last two the image is of no use. After all others the tree is as it
/// was, but directories above the entry may have been made.
#[derive(Debug)]
pub struct Writer<W: Write + Seek> {
    output: Output<W>,
    tree: Tree,
    options: Options,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins an image at the start of `out`, which should be empty: nothing is cut off.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Limit`].
    pub fn new(out: W, options: Options) -> Result<Self, Error> {
        let Options { limits, .. } = options;
        let output = Output::new(out, limits.image)?;
        Ok(Self { output, tree: Tree::new(&limits), options })
    }

    /// Adds a directory, or gives one other attributes. The root is one as well.
    ///
    /// Overlayfs' attributes `trusted.overlay.opaque` and `trusted.overlay.origin` are the
    /// writer's: `opaque` with the value `y` is as [`Self::opaque`], all else of both is dropped.
    /// A directory in place of a whiteout is opaque.
    ///
    /// # Errors
    /// Those of every call.
    pub fn directory(&mut self, path: &[u8], mut meta: Meta) -> Result<(), Error> {
        let opaque = meta.xattrs.take_overlay();
        self.tree.set_directory(path, meta.into(), opaque)
    }

    /// Hides what lower layers have in a directory. It is made if it is missing.
    ///
    /// # Errors
    /// Those of every call; [`Error::NotADirectory`] if the path itself is something else.
    pub fn opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        self.tree.make_opaque(path)
    }

    /// Adds a regular file of `size` bytes, whose content the caller gives to what is returned.
    ///
    /// # Errors
    /// Those of every call; [`Error::Limit`] if it has more than 16 TiB.
    pub fn file(&mut self, path: &[u8], meta: Meta, size: u64) -> Result<FileWriter<'_, W>, Error> {
        let spot = self.tree.spot(path)?;
        let parts = (&mut self.output, &mut self.tree);
        FileWriter::new(parts, spot, meta.into(), size, self.options.layout)
    }

    /// Adds a symbolic link. Its target is kept as it is.
    ///
    /// # Errors
    /// Those of every call; [`Error::SymlinkTarget`] if the target is empty, has more than 4095
    /// bytes or a zero byte.
    pub fn symlink(&mut self, path: &[u8], target: &[u8], meta: Meta) -> Result<(), Error> {
        let error = |reason| Err(Error::SymlinkTarget { path: shown(path), reason });
        match target {
            [] => return error("is empty"),
            _ if target.len() > MAX_TARGET => return error("is longer than 4095 bytes"),
            _ if target.contains(&0) => return error("has a zero byte"),
            _ => {}
        }
        let spot = self.tree.spot(path)?;
        let size = u64::try_from(target.len()).unwrap_or(u64::MAX);
        let content = if tail_size(size) > 0 {
            Content { size, block: NO_BLOCK, rest: Rest::Tail(target.into()) }
        } else {
            let block = self.output.align()?;
            self.output.write(target)?;
            Content { size, block, rest: Rest::None }
        };
        self.tree.put(spot, meta.into(), Body::Symlink(content))?;
        Ok(())
    }

    /// Adds a device, pipe or socket.
    ///
    /// # Errors
    /// Those of every call; [`Error::Device`] if Linux has no such device number.
    pub fn special(&mut self, path: &[u8], special: Special, meta: Meta) -> Result<(), Error> {
        if let Some((major, minor)) = special.impossible() {
            return Err(Error::Device { path: shown(path), major, minor });
        }
        let spot = self.tree.spot(path)?;
        self.put_special(spot, special, meta)
    }

    fn put_special(&mut self, spot: Spot, special: Special, meta: Meta) -> Result<(), Error> {
        self.tree.put(spot, meta.into(), Body::Special(special))?;
        Ok(())
    }

    /// Gives the inode at `target` one more path.
    ///
    /// # Errors
    /// Those of every call; [`Error::LinkTargetMissing`] if there is nothing, or a whiteout;
    /// [`Error::LinkToDirectory`].
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        let (link, shown_target) = (shown(path), shown(target));
        let found = self.tree.find(target)?.filter(|id| !self.tree.is_whiteout(*id));
        let Some(id) = found else {
            return Err(Error::LinkTargetMissing { path: link, target: shown_target });
        };
        if self.tree.directory(id).is_some() {
            return Err(Error::LinkToDirectory { path: link, target: shown_target });
        }
        let spot = self.tree.spot(path)?;
        self.tree.link(spot, id)
    }

    /// Hides what lower layers have at a path, as overlayfs does: a character device 0:0.
    ///
    /// It hides nothing of this image (OCI image specification, `layer.md`, "Whiteouts"). An entry
    /// that is there already stays; a directory becomes opaque. An entry that comes later takes the
    /// whiteout's place.
    ///
    /// # Errors
    /// Those of every call.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        let spot = self.tree.spot(path)?;
        match self.tree.at(&spot) {
            Some(id) => {
                self.tree.set_opaque(id);
                Ok(())
            }
            None => self.put_special(spot, Special::WHITEOUT, Meta::default()),
        }
    }

    /// The path with every symbolic link above its last name replaced by what that leads to.
    ///
    /// Links of this image are followed as if its root were that of the file system: `..` and
    /// absolute targets stay inside. Other than in the calls above, `..` is the directory above the
    /// one that a link has led to. What does not exist is taken for a directory. A link whose target
    /// has more than 2048 bytes may be left as it is.
    ///
    /// # Errors
    /// [`Error::Path`] if the path leads through more than 2048 names, or in a circle.
    pub fn follow(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        self.tree.follow(path)
    }

    /// Writes all that is left.
    ///
    /// The caller makes it durable, if it has to be.
    ///
    /// # Errors
    /// [`Error::Limit`] or [`Error::Io`]. No magic number was written then, unless the very last
    /// write has failed.
    pub fn finish(self) -> Result<Summary, Error> {
        finish(self.output, &self.tree, self.options.uuid)
    }
}
