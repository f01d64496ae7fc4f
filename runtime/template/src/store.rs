//! The store of a node's templates. It is a tmpfs of Cuddy's own: a template's memory is never
//! written to a disk. It is gone with the host's boot, as it must be.
//!
//! ```text
//! /run/cuddy/.templates.lock     held by the one builder
//! /run/cuddy/.templates/         the tmpfs; no namespace of containerd's can have this name
//!   KEY/                         a template: it appears by one rename, complete
//!     memory  state  template.json  written
//!   KEY.new-PID/                 one that is being built
//!   KEY.old-PID/                 one that is being removed
//!   KEY.failed                   why there is none, as of when
//! ```
//!
//! Readers take no lock. What has a directory of its key is complete, and what a reader has opened
//! stays until it closes it.

mod draft;
mod failure;
mod lock;
mod mounted;
mod record;
mod sweep;

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::Error;
use host::Config;
use host::mounts::open_read_only;
use machine::Saved;

pub(crate) use draft::Draft;
pub use failure::Failure;
pub(crate) use failure::now;
pub use lock::Lock;
pub use record::Record;
pub(crate) use sweep::RUN;

use crate::{Identity, Key, Recipe, TemplateError};

/// The store's directory in that of all sandboxes.
const DIRECTORY: &str = ".templates";

/// Most templates of a node: each class of a few tenants or configurations.
pub(crate) const MAX_TEMPLATES: usize = 32;

/// Largest record in bytes; they have about one thousand.
const MAX_RECORD: u64 = 64 << 10;

const MEMORY: &str = "memory";
const STATE: &str = "state";
const RECORD: &str = "template.json";

/// The pages that clones write; not there before one was tried.
const WRITTEN: &str = "written";

/// The templates of this node.
#[derive(Debug, Clone)]
pub struct Store(PathBuf);

/// A template that can be used: its files are open, so that nobody can take them away.
#[derive(Debug)]
pub struct Template {
    /// Its name.
    pub key: Key,
    /// What is written down of it.
    pub record: Record,
    state: File,
    pub(crate) memory: File,
    written: Option<File>,
}

/// A template as it lies in the store.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub key: Key,
    /// What is written down of it, or why that can't be read.
    pub record: Result<Record, TemplateError>,
    /// Memory that it takes, in bytes.
    pub bytes: u64,
}

impl Listed {
    /// Whether what it was made of has changed since, or can't be told.
    pub fn is_stale(&self) -> bool {
        !matches!(&self.record, Ok(record) if record.recipe.inputs.hold())
    }
}

impl Store {
    /// That of this node; it need not be there.
    pub fn of_node() -> Self {
        Self(host::store::root().join(DIRECTORY))
    }

    /// One at any place, for tests.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The template for a recipe, if there is one.
    ///
    /// # Errors
    /// [`TemplateError::Damaged`] for one that can't be used.
    pub fn find(&self, recipe: &Recipe) -> Result<Option<Template>, TemplateError> {
        let key = recipe.key()?;
        let Some(template) = self.open(&key, &self.directory(&key))? else { return Ok(None) };
        if template.record.recipe != *recipe {
            let reason = "it is made of other things than its name says".to_owned();
            return Err(TemplateError::Damaged { key, reason });
        }
        Ok(Some(template))
    }

    /// The template of this name, if there is one.
    ///
    /// # Errors
    /// [`TemplateError::Damaged`] for one that can't be used.
    pub fn get(&self, key: &Key) -> Result<Option<Template>, TemplateError> {
        self.open(key, &self.directory(key))
    }

    /// Opens the template that lies in `directory`.
    pub(crate) fn open(
        &self,
        key: &Key,
        directory: &Path,
    ) -> Result<Option<Template>, TemplateError> {
        let damaged = |what: &str, error: &dyn std::fmt::Display| TemplateError::Damaged {
            key: key.clone(),
            reason: format!("{what}: {error}"),
        };
        let Some(record) = read_record(key, directory)? else { return Ok(None) };
        let state = File::open(directory.join(STATE)).map_err(|error| damaged(STATE, &error))?;
        let memory = open_read_only(&directory.join(MEMORY));
        let memory = memory.map_err(|error| damaged(MEMORY, &error))?;
        let size = memory.metadata().map_err(|error| damaged(MEMORY, &error))?.len();
        if size != record.recipe.memory_mib << 20 {
            let expected = record.recipe.memory_mib;
            return Err(damaged(MEMORY, &format!("{size} bytes, expected {expected} MiB")));
        }
        let written = match File::open(directory.join(WRITTEN)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            written => Some(written.map_err(|error| damaged(WRITTEN, &error))?),
        };
        Ok(Some(Template { key: key.clone(), record, state, memory, written }))
    }

    /// All templates, by name.
    ///
    /// # Errors
    /// [`TemplateError::Store`] if the store can't be read.
    pub fn list(&self) -> Result<Vec<Listed>, TemplateError> {
        let mut listed = Vec::new();
        for name in self.names()? {
            let Ok(key) = name.parse::<Key>() else { continue };
            let directory = self.directory(&key);
            let record = read_record(&key, &directory);
            let record = record.and_then(|record| {
                let reason = format!("{RECORD} is missing");
                record.ok_or_else(|| TemplateError::Damaged { key: key.clone(), reason })
            });
            let bytes = [MEMORY, STATE].iter().filter_map(|file| taken(&directory.join(file)));
            listed.push(Listed { bytes: bytes.sum(), key, record });
        }
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(listed)
    }

    /// Removes a template. Clones of it go on. Returns whether it was there.
    ///
    /// # Errors
    /// [`TemplateError::Store`] if it can't be removed.
    pub fn remove(&self, key: &Key) -> Result<bool, TemplateError> {
        let old = self.0.join(format!("{key}.old-{}", std::process::id()));
        // First the name: nobody finds half of it.
        match std::fs::rename(self.directory(key), &old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            renamed => renamed.map_err(self.failed("removing template", &old))?,
        }
        std::fs::remove_dir_all(&old).map_err(self.failed("removing", &old))?;
        Ok(true)
    }

    /// Takes a template that does not work out of the way, and notes why, so that it is not built
    /// anew at once.
    pub fn set_aside(&self, key: &Key, reason: &str) {
        if let Err(error) = self.remove(key) {
            log::warn!("{}", api::error::chain(&error));
        }
        self.note_failure(key, reason);
    }

    pub(crate) fn directory(&self, key: &Key) -> PathBuf {
        self.0.join(key.as_str())
    }

    /// Makes an empty directory, in which this process builds or tries something.
    pub(crate) fn scratch(&self, key: &Key, kind: &str) -> Result<PathBuf, TemplateError> {
        let path = self.0.join(format!("{key}.{kind}-{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(self.failed("making", &path))?;
        Ok(path)
    }

    fn names(&self) -> Result<Vec<String>, TemplateError> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(self.failed("reading", &self.0))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.collect())
    }

    /// Says what was being done when the kernel refused it.
    pub(crate) fn failed(
        &self,
        doing: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> TemplateError {
        let path = path.to_owned();
        move |source| TemplateError::Store { doing, path, source }
    }
}

impl Template {
    /// What a machine goes on from, with the operator's root image, which must still be the one
    /// that the template has.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for an image that is gone or another one.
    pub fn into_saved(self, config: &Config) -> Result<Saved, Error> {
        let path = &config.rootfs;
        let opened = open_read_only(path);
        let found = opened.and_then(|image| {
            let identity = Identity::from_metadata(path, &image.metadata()?)?;
            Ok((image, identity))
        });
        let doing = |error: &dyn std::fmt::Display| {
            Error::Unavailable(format!("opening the guest root image {}: {error}", path.display()))
        };
        let (image, identity) = found.map_err(|error| doing(&error))?;
        if identity != self.record.recipe.inputs.rootfs {
            return Err(doing(&"it is not the one that the template has"));
        }
        Ok(Saved {
            state: self.state,
            memory: self.memory,
            image,
            kernel: self.record.kernel,
            written: self.written,
            booted_in: Duration::from_micros(self.record.booted_in_us),
        })
    }
}

/// What is written down in a template's directory; none if there is no such directory.
fn read_record(key: &Key, directory: &Path) -> Result<Option<Record>, TemplateError> {
    let damaged = |error: &dyn std::fmt::Display| TemplateError::Damaged {
        key: key.clone(),
        reason: format!("{RECORD}: {error}"),
    };
    let mut text = Vec::new();
    let file = match File::open(directory.join(RECORD)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => {
            return Ok(None);
        }
        file => file.map_err(|error| damaged(&error))?,
    };
    file.take(MAX_RECORD).read_to_end(&mut text).map_err(|error| damaged(&error))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| damaged(&error))
}

/// Bytes that a file takes.
fn taken(path: &Path) -> Option<u64> {
    /// Unit of `st_blocks` (stat(2)).
    const BLOCK: u64 = 512;
    std::fs::metadata(path).ok().map(|file| file.blocks() * BLOCK)
}

#[cfg(test)]
mod tests;
