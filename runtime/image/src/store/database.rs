//! The database's file: how it is opened, changed, and opened again after a failure.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{Builder, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::error::{StoreError, at, patiently};

/// Bytes of the database that are kept in memory: lists don't come from it.
const CACHE: usize = 1 << 20;

/// What a closure returns that reads or writes rows.
pub(super) type Rows<T> = Result<T, redb::Error>;

/// The open database. After a failure to write, redb refuses all work until it is opened again:
/// so that is done, and what is in the file then is the truth.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    open: RwLock<Option<redb::Database>>,
}

impl Database {
    /// Opens the file, or creates it. The store's directory is locked by then.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = patiently(|| open(path))?;
        Ok(Self { path: path.to_owned(), open: RwLock::new(Some(database)) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads rows of one moment. Does not wait for who writes.
    pub(super) fn read<T>(
        &self,
        doing: &'static str,
        read: impl FnOnce(&ReadTransaction) -> Rows<T>,
    ) -> Result<T, StoreError> {
        self.with(doing, |database| read(&database.begin_read()?))
    }

    /// Changes rows: all of them or none, on the disk when this returns.
    pub(super) fn write<T>(
        &self,
        doing: &'static str,
        change: impl FnOnce(&WriteTransaction) -> Rows<T>,
    ) -> Result<T, StoreError> {
        let written = self.with(doing, |database| {
            let transaction = database.begin_write()?;
            let changed = change(&transaction)?;
            transaction.commit()?;
            Ok(changed)
        });
        if written.is_err() {
            // A failure here is seen, and tried again, by the next one.
            let _ = self.reopen();
        }
        written
    }

    fn with<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&redb::Database) -> Rows<T>,
    ) -> Result<T, StoreError> {
        let mut guard = self.guard();
        if guard.is_none() {
            drop(guard);
            self.reopen()?;
            guard = self.guard();
        }
        let closed = || Err(redb::Error::DatabaseClosed);
        let worked = guard.as_ref().map_or_else(closed, work);
        worked.map_err(|source| self.failed(doing, source))
    }

    fn failed(&self, doing: &'static str, source: redb::Error) -> StoreError {
        match source {
            redb::Error::Corrupted(reason) => {
                StoreError::Damaged { path: self.path.clone(), reason }
            }
            source => {
                StoreError::Database { doing, path: self.path.clone(), source: Box::new(source) }
            }
        }
    }

    fn guard(&self) -> RwLockReadGuard<'_, Option<redb::Database>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the file and opens it again, as after a crash.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        drop(slot.take());
        *slot = Some(patiently(|| open(&self.path))?);
        Ok(())
    }
}

fn open(path: &Path) -> Result<redb::Database, StoreError> {
    let doing = "opening";
    Builder::new().set_cache_size(CACHE).create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { path: path.parent().unwrap_or(path).to_owned() }
        }
        DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != std::io::ErrorKind::InvalidData =>
        {
            at(doing, path)(source)
        }
        error => StoreError::Damaged { path: path.to_owned(), reason: error.to_string() },
    })
}
