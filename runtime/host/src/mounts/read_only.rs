//! Files of the host that a machine reads and must never write: base images and kernels, which
//! other pods read as well.
//!
//! A descriptor that is open for reading is no protection by itself. A link in `/proc/self/fd` leads
//! back to the mount by which a file was opened, and root owns the file. The attack: a VMM that its
//! guest has taken over opens an image once more, for writing, and so reaches every pod of the node.
//! The mount by which it was opened here is read-only and nowhere else.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat};

use super::Tree;

/// Opens a file for reading by a read-only mount of its own, which is gone with its last
/// descriptor. A device is opened as it is: what it holds is none of a mount's business.
///
/// # Errors
/// What the kernel answered.
pub fn open_read_only(path: &Path) -> io::Result<File> {
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&place)?.st_mode) {
        FileType::RegularFile => reopen(Tree::read_only(place.as_fd())?.as_fd()),
        _ => reopen(place.as_fd()),
    }
}

/// Opens for reading what a place leads to.
fn reopen(place: BorrowedFd<'_>) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    /// Mounting needs root, as all of this crate's work does; the tests run as it.
    #[test]
    fn descriptor_of_an_image_leads_to_no_writing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("image"), dir.path().join("link"));
        std::fs::write(&path, "image").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for path in [&path, &link] {
            let file = open_read_only(path).unwrap();
            let again = format!("/proc/self/fd/{}", file.as_raw_fd());
            assert_eq!(std::fs::read_to_string(&again).unwrap(), "image");
            for truncate in [false, true] {
                let opened = OpenOptions::new().write(true).truncate(truncate).open(&again);
                let error = opened.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{error}");
            }
        }
        // The host itself goes on as before.
        std::fs::write(&path, "new").unwrap();
        let missing = open_read_only(&dir.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn device_is_opened() {
        open_read_only(Path::new("/dev/null")).unwrap();
    }
}
