//! The files of an archive or a directory, by their names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use tar_core::EntryType;
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};

use super::ArchiveError;
use crate::manifest::MAX_MANIFEST_BYTES;
use crate::text::{line, quoted};

/// Most entries of an archive.
const MAX_ENTRIES: usize = 1 << 16;

/// Most bytes of a name. Those of images have fewer than 200.
const MAX_NAME: usize = 1024;

/// Most bytes of the headers of one entry.
const MAX_HEADERS: usize = 1 << 20;

/// How many links may lead from one name to the next.
const MAX_LINKS: usize = 8;

/// Headers, content and padding are multiples of this.
const BLOCK: u64 = 512;

/// Most characters of the tar library's words.
const MAX_WORDS: usize = 300;

/// The files of an archive or a directory.
#[derive(Debug)]
pub enum Contents {
    /// An archive: a file, and where in it the others are.
    Archive {
        /// The archive.
        file: File,
        /// What is in it.
        entries: BTreeMap<String, Entry>,
    },
    /// An open directory.
    Directory(File),
}

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File {
        /// Its first byte in the archive.
        at: u64,
        /// Its bytes.
        size: u64,
    },
    /// Another name.
    Link(String),
}

impl Contents {
    /// What is in a directory. Nothing is read yet.
    pub fn of_directory(directory: File) -> Self {
        Self::Directory(directory)
    }

    /// What is in a tar archive. Only its headers are read.
    ///
    /// # Errors
    /// [`ArchiveError`] if it is none, or has more than is read.
    pub fn of_file(file: &File) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Read { what: "the archive".to_owned(), source };
        let file = file.try_clone().map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let entries = Headers { file: &file, size, at: 0 }.all()?;
        Ok(Self::Archive { file, entries })
    }

    /// Whether there is a file of that name.
    pub fn has(&self, path: &str) -> bool {
        self.open(path).is_ok()
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`] if there is none of that name.
    pub fn open(&self, path: &str) -> Result<Part, ArchiveError> {
        let missing = || ArchiveError::Missing { path: quoted(path) };
        let failed = |source| ArchiveError::Read { what: quoted(path), source };
        let name = plain(path.as_bytes()).ok_or_else(missing)?;
        match self {
            Self::Directory(directory) => {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                // A pipe in its place must not hold us up.
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let opened = openat2(directory, &name, flags, Mode::empty(), resolve);
                let file = match opened {
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Err(missing()),
                    opened => opened.map(File::from).map_err(|error| failed(error.into())),
                }?;
                let metadata = file.metadata().map_err(failed)?;
                match metadata.is_file() {
                    true => Ok(Part { file, at: 0, left: metadata.len() }),
                    false => Err(missing()),
                }
            }
            Self::Archive { file, entries } => {
                let (at, left) = find(entries, name).ok_or_else(missing)?;
                Ok(Part { file: file.try_clone().map_err(failed)?, at, left })
            }
        }
    }

    /// A small file as a whole.
    ///
    /// # Errors
    /// [`ArchiveError::TooMany`] for one of more than 4 MiB.
    pub fn small(&self, path: &str) -> Result<Vec<u8>, ArchiveError> {
        let mut part = self.open(path)?;
        if part.left > MAX_MANIFEST_BYTES {
            let (what, limit) = ("bytes in a file that is no layer", MAX_MANIFEST_BYTES);
            return Err(ArchiveError::TooMany { what, limit });
        }
        let mut bytes = Vec::new();
        let read = part.read_to_end(&mut bytes);
        read.map_err(|source| ArchiveError::Read { what: quoted(path), source })?;
        Ok(bytes)
    }
}

/// Follows links to a file: where it is, and its size.
fn find(entries: &BTreeMap<String, Entry>, mut name: String) -> Option<(u64, u64)> {
    for _ in 0..=MAX_LINKS {
        match entries.get(&name)? {
            Entry::File { at, size } => return Some((*at, *size)),
            Entry::Link(target) => name.clone_from(target),
        }
    }
    None
}

/// A file that is being read. It ends where it ended when it was opened.
#[derive(Debug)]
pub struct Part {
    file: File,
    at: u64,
    left: u64,
}

impl Part {
    /// Bytes that were not read yet.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// A name as archives and layouts have it, with `/` between its parts. None: it is no file's, or
/// leads elsewhere.
fn plain(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok().filter(|path| path.len() <= MAX_NAME)?;
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    let parts: Vec<_> = parts.collect();
    let inside = !path.starts_with('/') && !path.contains('\0') && !parts.contains(&"..");
    (inside && !parts.is_empty()).then(|| parts.join("/"))
}

/// The name that a symbolic link stands for. None: it leads elsewhere.
fn target(link: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok().filter(|target| !target.starts_with('/'))?;
    let mut parts: Vec<_> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    plain(parts.join("/").as_bytes())
}

/// The headers of an archive.
struct Headers<'a> {
    file: &'a File,
    size: u64,
    at: u64,
}

impl Headers<'_> {
    fn all(mut self) -> Result<BTreeMap<String, Entry>, ArchiveError> {
        let limits = Limits {
            max_metadata_size: 1 << 16,
            max_path_len: Some(4096),
            max_pending_entries: 16,
            max_sparse_entries: 0,
        };
        let mut parser = Parser::new(limits);
        let mut entries = BTreeMap::new();
        let mut wanted = 8 << 10;
        let mut buffer = Vec::new();
        let mut count = 0;
        loop {
            let ended = self.fill(&mut buffer, wanted)?;
            let event = parser.parse(&buffer).map_err(|error| self.invalid(&error.to_string()))?;
            match event {
                // Some tools leave out the blocks that end an archive.
                ParseEvent::NeedData { .. } if ended && buffer.iter().all(|byte| *byte == 0) => {
                    return Ok(entries);
                }
                ParseEvent::NeedData { min_bytes } => {
                    wanted = self.more(ended, min_bytes.max(2 * wanted))?;
                    continue;
                }
                ParseEvent::Entry { consumed, entry } => {
                    self.at += consumed as u64;
                    self.take(&entry, &mut entries)?;
                }
                ParseEvent::SparseEntry { .. } => {
                    return Err(self.invalid("sparse files are in no image"));
                }
                ParseEvent::GlobalExtensions { consumed, .. } => self.at += consumed as u64,
                ParseEvent::End { .. } => return Ok(entries),
            }
            wanted = 8 << 10;
            count += 1;
            if count > MAX_ENTRIES {
                let (what, limit) = ("entries", MAX_ENTRIES as u64);
                return Err(ArchiveError::TooMany { what, limit });
            }
        }
    }

    /// How many bytes are to be looked at, if so many are wanted.
    fn more(&self, ended: bool, wanted: usize) -> Result<usize, ArchiveError> {
        if ended || wanted > MAX_HEADERS {
            return Err(self.invalid("the headers of an entry do not end"));
        }
        Ok(wanted)
    }

    /// Notes an entry, and goes behind its content. The last one of a name counts.
    fn take(
        &mut self,
        entry: &ParsedEntry<'_>,
        entries: &mut BTreeMap<String, Entry>,
    ) -> Result<(), ArchiveError> {
        let has_content = matches!(entry.entry_type, EntryType::Regular | EntryType::Continuous);
        let size = if has_content { entry.size } else { 0 };
        let padded = size.checked_next_multiple_of(BLOCK);
        let end = padded.and_then(|padded| self.at.checked_add(padded));
        let inside = |end: &u64| self.at + size <= self.size && *end < u64::MAX;
        let end = end.filter(inside).ok_or_else(|| self.invalid("it ends within a file"))?;
        let Some(name) = plain(&entry.path) else {
            let no_file = entry.entry_type == EntryType::Directory;
            let shown = quoted(&String::from_utf8_lossy(&entry.path));
            self.at = end;
            return if no_file { Ok(()) } else { Err(self.invalid(&format!("the name {shown}"))) };
        };
        let link = entry.link_target.as_deref().unwrap_or_default();
        let noted = match entry.entry_type {
            EntryType::Link => plain(link).map(Entry::Link),
            EntryType::Symlink => target(&name, link).map(Entry::Link),
            _ if has_content => Some(Entry::File { at: self.at, size }),
            _ => None,
        };
        let is_link = matches!(entry.entry_type, EntryType::Link | EntryType::Symlink);
        if is_link && noted.is_none() {
            return Err(self.invalid("a link leads out of the archive"));
        }
        entries.extend(noted.map(|noted| (name, noted)));
        self.at = end;
        Ok(())
    }

    /// Reads the bytes from here on: `wanted` of them, or all. Whether it is all.
    fn fill(&self, buffer: &mut Vec<u8>, wanted: usize) -> Result<bool, ArchiveError> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let count = wanted.min(left);
        buffer.clear();
        buffer.resize(count, 0);
        let read = self.file.read_exact_at(buffer, self.at);
        read.map_err(|source| ArchiveError::Read { what: "the archive".to_owned(), source })?;
        Ok(count == left)
    }

    fn invalid(&self, reason: &str) -> ArchiveError {
        ArchiveError::Tar { at: self.at, reason: line(reason, MAX_WORDS) }
    }
}
