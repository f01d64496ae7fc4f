//! What the caller decides about an image.

/// Largest file, in bytes: 16 TiB, as many blocks as a block address of 32 bits can name.
pub(crate) const MAX_FILE: u64 = 1 << 44;

/// Where the last, partial block of a regular file goes.
///
/// Directories and short symbolic links are always packed behind their inodes: nothing maps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Into a block of its own, padded with zeros. Files can be mapped by DAX, from pmem. Each
    /// file wastes 2 KiB on average.
    #[default]
    Plain,
    /// Behind the inode, if it has at most 2048 bytes and [`Limits::tails`] has room for it.
    /// Smaller images, for disks that are read through the page cache.
    Inline,
}

/// How large the parts of an image may become. The memory that the tree takes is about 200 bytes per
/// entry, and what the other limits allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Names in directories, hard links and missing parents included.
    pub entries: u64,
    /// Bytes of all names and of all targets of symbolic links.
    pub names: u64,
    /// Bytes of all extended attributes, as they are in the image.
    pub xattrs: u64,
    /// Holes in sparse files, 8 bytes of memory each.
    pub holes: u64,
    /// Bytes of tails that are kept in memory ([`Layout::Inline`]). Nothing is refused: the tails
    /// of later files get blocks of their own.
    pub tails: u64,
    /// Bytes of the image. Above 16 TiB the format is the limit.
    pub image: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1 << 20,
            names: 64 << 20,
            xattrs: 64 << 20,
            holes: 1 << 20,
            tails: 64 << 20,
            image: 256 << 30,
        }
    }
}

/// What the caller decides about an image as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The UUID of the volume.
    pub uuid: [u8; 16],
    /// Where the ends of files go.
    pub layout: Layout,
    /// How large the image may become.
    pub limits: Limits,
}
