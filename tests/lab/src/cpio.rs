//! Writes initramfs archives in the "newc" cpio format (kernel documentation,
//! `driver-api/early-userspace/buffer-format`). The kernel unpacks archives that follow each
//! other, so what is written here is appended to the cached initramfs at each boot.

/// A growing archive; every entry belongs to root.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

impl Archive {
    /// Adds a directory at `path`, which has no leading slash; parents must have been added.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, &[]);
    }

    /// Adds an executable file at `path` with `content`.
    pub fn executable(&mut self, path: &str, content: &[u8]) {
        self.entry(path, REGULAR | 0o755, content);
    }

    /// Ends the archive and returns its bytes.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode & DIRECTORY == 0 { 1 } else { 2 };
        // Fields: inode, mode, uid, gid, links, mtime, size, device ×2, node ×2, name, check.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            u32::try_from(content.len()).unwrap_or(u32::MAX),
            0,
            0,
            0,
            0,
            u32::try_from(path.len() + 1).unwrap_or(u32::MAX),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_the_trailer_ends_the_archive() {
        let mut archive = Archive::default();
        archive.directory("lab");
        archive.executable("lab/run", b"#!/bin/sh\n");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"07070100000001000041ed"));
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 3);
        assert!(text.contains("lab/run\0"));
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
    }
}
