//! A writer of EROFS images, for layers of container images.
//!
//! [`Writer`] takes the entries of a tree in any order, as a tar stream has them. It streams the
//! content of files to its output and keeps the tree in memory. [`Writer::finish`] appends the
//! metadata and writes the superblock last. An image that was not finished has no magic number, so
//! that nothing mounts it. The same calls make the same bytes.
//!
//! The image is uncompressed and has blocks of 4096 bytes:
//!
//! | part | what is in it |
//! |---|---|
//! | block 0 | the superblock, at byte 1024 |
//! | data | content of files, each from a block of its own on |
//! | directories | all blocks of directories but short last ones |
//! | metadata | inodes of 64 bytes, each with its extended attributes and its tail or chunk map |
//!
//! Linux 5.15 and later mount it (chunk-based files need that). The names of the format are those
//! of the kernel's `fs/erofs/erofs_fs.h` and of <https://erofs.docs.kernel.org/en/latest/design.html>.
//!
//! [`Reader`] reads such images again, to make archives of them.
//!
//! What a stranger can choose is bounded by [`Limits`]. The state has one owner, the [`Writer`]:
//! `tree` keeps the entries, `output` the bytes, `plan` finds the inodes' places.
#![forbid(unsafe_code)]

mod account;
mod directory;
mod disk;
mod error;
mod file;
mod finish;
mod follow;
mod limits;
mod meta;
mod output;
mod path;
mod plan;
mod reader;
mod tree;
mod writer;
mod xattr;

#[cfg(fuzzing)]
pub mod fuzzing;

pub use error::Error;
pub use file::FileWriter;
pub use finish::Summary;
pub use limits::{Layout, Limits, Options};
pub use meta::{Meta, Mtime, Special};
pub use reader::{Inode, Kind, Name, Names, Piece, ReadError, Reader};
pub use writer::Writer;
pub use xattr::Xattrs;
