//! The descriptor behind a handle of the library, which keeps it to itself.

use std::fs::File;
use std::io;

use virtiofsd::filesystem::{Context, FileSystem, ZeroCopyWriter};
use virtiofsd::oslib::ReadvFlags;
use virtiofsd::passthrough::PassthroughFs;

/// Something that is read into: the library lends it the descriptor.
struct Look<F>(Option<F>);

impl<F: FnOnce(&File) -> io::Result<()>> ZeroCopyWriter for Look<F> {
    fn read_from_file_at(
        &mut self,
        file: &File,
        _count: usize,
        _offset: u64,
        _flags: Option<ReadvFlags>,
    ) -> io::Result<usize> {
        self.0.take().map_or(Ok(()), |look| look(file))?;
        Ok(0)
    }
}

/// Calls `look` with the descriptor of an open handle.
///
/// # Errors
/// EBADF if there is no such handle; what `look` fails with.
pub(super) fn with_file<T>(
    passthrough: &PassthroughFs,
    context: &Context,
    (inode, handle): (u64, u64),
    look: impl FnOnce(&File) -> io::Result<T>,
) -> io::Result<T> {
    let mut seen = None;
    let look = |file: &File| {
        seen = Some(look(file)?);
        Ok(())
    };
    passthrough.read(*context, inode, handle, Look(Some(look)), 0, 0, None, 0)?;
    seen.ok_or_else(|| io::ErrorKind::NotFound.into())
}
