//! The disk to which a container writes: an ext4 file system in a sparse file. Each size is
//! formatted once; containers get copies of that, which are a few hundred KiB.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use tokio::sync::Mutex;

use crate::fault::{Fault, blocking};

/// Formatted files, by size; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Disks {
    directory: PathBuf,
    formatting: Arc<Mutex<()>>,
}

impl Disks {
    /// Formatted files in `directory`, which exists.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, formatting: Arc::default() }
    }

    /// Makes a new disk of so many bytes in `path`.
    ///
    /// # Errors
    /// [`Fault::Internal`] with the path.
    pub(crate) async fn make(&self, path: &Path, bytes: u64) -> Result<(), Fault> {
        let formatted = self.formatted(bytes).await?;
        let to = path.to_owned();
        let copied = blocking("copying a disk", move || copy(&formatted, &to)).await?;
        copied.map_err(|error| Fault::Internal(format!("making {}: {error}", path.display())))
    }

    /// The formatted file of this size. Its name tells how it was made, so that another release
    /// makes its own.
    async fn formatted(&self, bytes: u64) -> Result<PathBuf, Fault> {
        let _one = self.formatting.lock().await;
        let path = self.directory.join(format!("disk-v1-{bytes}.ext4"));
        if tokio::fs::try_exists(&path).await.unwrap_or(false) {
            return Ok(path);
        }
        let doing = format!("formatting {}", path.display());
        let failed = |reason: &dyn std::fmt::Display| Fault::Internal(format!("{doing}: {reason}"));
        let new = path.with_extension("new");
        sparse(&new, bytes).map_err(|error| failed(&error))?;
        host::ext4::format(&new).await.map_err(|error| Fault::Internal(error.to_string()))?;
        tokio::fs::rename(&new, &path).await.map_err(|error| failed(&error))?;
        Ok(path)
    }
}

fn sparse(path: &Path, bytes: u64) -> io::Result<()> {
    File::create(path)?.set_len(bytes)
}

/// Copies a sparse file, holes as holes.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let from = File::open(from)?;
    let to = File::create_new(to)?;
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut at = 0;
    while at < length {
        let begin = match seek(&from, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(&from, SeekFrom::Hole(begin))?;
        let (mut input, mut output) = (begin, begin);
        while input < end {
            let rest = usize::try_from(end - input).unwrap_or(usize::MAX);
            if copy_file_range(&from, Some(&mut input), &to, Some(&mut output), rest)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn copy_has_the_content_and_the_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create_new(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 32 << 20).unwrap();
        copy(&from, &to).unwrap();
        let copied = File::open(&to).unwrap();
        let mut text = [0; 6];
        copied.read_exact_at(&mut text, 32 << 20).unwrap();
        assert_eq!(&text, b"middle");
        let facts = copied.metadata().unwrap();
        assert_eq!(facts.len(), 64 << 20);
        assert!(facts.blocks() * 512 < 1 << 20, "{} blocks", facts.blocks());
        assert!(copy(&from, &to).is_err(), "nothing is overwritten");
    }
}
