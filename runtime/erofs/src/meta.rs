//! What an entry is besides its content.

use crate::xattr::Xattrs;

/// Most nanoseconds in a second that is not over.
const MAX_NANOSECONDS: u32 = 999_999_999;

/// Attributes of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permissions with set-user-ID, set-group-ID and sticky bit: the lower 12 bits; the others
    /// are ignored.
    pub mode: u16,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// When the content changed last. The image has no other time, and none of its own.
    pub mtime: Mtime,
    /// Extended attributes. All are kept as they are, but two of directories (see
    /// [`Writer::directory`](crate::Writer::directory)). Overlayfs obeys some that layers of
    /// strangers should not have, `trusted.overlay.redirect` for instance.
    pub xattrs: Xattrs,
}

/// A time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mtime {
    /// Seconds since 1970 in UTC. Times before are negative: the kernel reads the field of 64 bits
    /// as a signed number.
    pub seconds: i64,
    /// Nanoseconds after that. More than 999 999 999 are taken as 999 999 999.
    pub nanoseconds: u32,
}

/// What is neither file, directory nor link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device. Number 0:0 is overlayfs' whiteout.
    Character {
        /// Major number, at most 4095.
        major: u32,
        /// Minor number, at most 1 048 575.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number, at most 4095.
        major: u32,
        /// Minor number, at most 1 048 575.
        minor: u32,
    },
}

impl Special {
    /// Overlayfs' mark that a name of a lower layer is gone.
    pub(crate) const WHITEOUT: Self = Self::Character { major: 0, minor: 0 };

    /// The device number that Linux can't have, if there is one.
    pub(crate) fn impossible(self) -> Option<(u32, u32)> {
        match self {
            Self::Fifo | Self::Socket => None,
            Self::Character { major, minor } | Self::Block { major, minor } => {
                (major >= 1 << 12 || minor >= 1 << 20).then_some((major, minor))
            }
        }
    }
}

/// [`Meta`] in the form in which the tree keeps it.
#[derive(Debug)]
pub(crate) struct Attributes {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Mtime,
    /// Encoded, see [`Xattrs::encode`].
    pub(crate) xattrs: Box<[u8]>,
    /// Whether no entry has said them.
    pub(crate) implied: bool,
}

impl Attributes {
    /// Those of a parent directory that no entry has described. containerd makes it so, too, where no
    /// layer below has the directory. Where one has, containerd copies what that one says
    /// (`mkparent` in its `pkg/archive/tar.go`). A writer of one layer does not know the others, and
    /// marks it for who does.
    pub(crate) fn of_missing_parent() -> Self {
        Self { implied: true, ..Meta { mode: 0o755, ..Meta::default() }.into() }
    }
}

impl From<Meta> for Attributes {
    fn from(meta: Meta) -> Self {
        let Mtime { seconds, nanoseconds } = meta.mtime;
        Self {
            mode: meta.mode & 0o7777,
            uid: meta.uid,
            gid: meta.gid,
            mtime: Mtime { seconds, nanoseconds: nanoseconds.min(MAX_NANOSECONDS) },
            xattrs: meta.xattrs.encode(),
            implied: false,
        }
    }
}
