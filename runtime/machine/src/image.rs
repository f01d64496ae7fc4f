//! The guest's root image, looked at before a machine is given it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use api::Error;

/// Offset and value of the EROFS superblock's magic number (kernel's `fs/erofs/erofs_fs.h`).
const EROFS_MAGIC: (u64, [u8; 4]) = (1024, [0xe2, 0xe1, 0xf5, 0xe0]);

/// Refuses a root image that is no EROFS: the guest would panic over it, with a worse message.
///
/// # Errors
/// [`Error::Unavailable`] with its name.
pub(super) fn check_erofs(image: &File, path: &Path) -> Result<(), Error> {
    let mut magic = [0; 4];
    let read = image.read_exact_at(&mut magic, EROFS_MAGIC.0);
    if read.is_err() || magic != EROFS_MAGIC.1 {
        let path = path.display();
        let text = format!("the guest root image {path} is not an EROFS image");
        return Err(Error::Unavailable(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_without_the_magic_is_refused_by_name() {
        let file = tempfile::tempfile().unwrap();
        let error = check_erofs(&file, Path::new("/x.erofs")).unwrap_err().to_string();
        assert!(error.contains("/x.erofs") && error.contains("EROFS"), "{error}");
        file.write_all_at(&EROFS_MAGIC.1, EROFS_MAGIC.0).unwrap();
        assert!(check_erofs(&file, Path::new("/x.erofs")).is_ok());
    }
}
