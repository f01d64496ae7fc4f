//! The records: every pod and container, kept so that neither a restart nor a kill of the daemon
//! loses one. A change is on record before [`Records::put`] returns, and visible in the snapshot
//! from then on.
//!
//! They lie on a tmpfs: no process's death loses what was written there, and a restart of the node
//! rightly forgets its pods. One thread writes, and takes all changes that wait into one commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::fault::Fault;
use crate::row::{Container, Pod};
use crate::snapshot::Snapshot;

/// Version of the rows. A store of a later one is left alone.
const VERSION: u32 = 1;

/// Bytes of the store that are kept in memory; its rows are in the snapshot anyway.
const CACHE: usize = 1 << 20;

/// Most changes that wait for the writer.
const WAITING: usize = 256;

const PODS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("pods");
const CONTAINERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("containers");
const FACTS: TableDefinition<'_, &str, u32> = TableDefinition::new("facts");

/// Why the records can't be opened. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Another daemon has them.
    #[error(
        "{0} is in use: another cuddyd runs with this state directory; stop that, or name another `state`"
    )]
    InUse(PathBuf),
    /// They are a later release's.
    #[error(
        "{path} was written by a later release of cuddyd (records {found}, this one knows {VERSION}): install that release again, or stop all pods and remove the file"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A row can't be read.
    #[error(
        "{path}: the row of {id} can't be read ({source}): if the pods may end, stop them and remove the file"
    )]
    Row {
        /// The file.
        path: PathBuf,
        /// Whose row.
        id: String,
        /// Why.
        source: prost::DecodeError,
    },
    /// The file can't be used.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// One change of the records.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// A pod is as it is here from now on.
    Pod(Box<Pod>),
    /// A container is as it is here from now on.
    Container(Box<Container>),
    /// A pod has no row any more.
    NoPod(String),
    /// A container has no row any more.
    NoContainer(String),
}

struct Write {
    changes: Vec<Change>,
    done: oneshot::Sender<Result<(), Fault>>,
}

/// The records; cheap to clone. The drop of the last one closes the file.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    writer: mpsc::Sender<Write>,
    view: watch::Receiver<Arc<Snapshot>>,
}

impl Records {
    /// Opens the records in `path`, or makes them there.
    ///
    /// # Errors
    /// [`RecordError`]; what is there stays as it is.
    pub(crate) fn open(path: &Path) -> Result<Self, RecordError> {
        let file =
            |source: redb::Error| RecordError::File { path: path.into(), source: source.into() };
        let database = Database::builder().set_cache_size(CACHE).create(path);
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => RecordError::InUse(path.into()),
            error => file(error.into()),
        })?;
        let found = version(&database).map_err(file)?;
        if let Some(found) = found.filter(|found| *found > VERSION) {
            return Err(RecordError::Newer { path: path.into(), found });
        }
        if found.is_none() {
            write_version(&database).map_err(file)?;
        }
        let snapshot = read(&database, path)?;
        let (publish, view) = watch::channel(Arc::new(snapshot));
        let (writer, writes) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new().name("records".into());
        let spawned = thread.spawn(move || serve(&database, writes, &publish));
        spawned.map_err(|source| RecordError::File { path: path.into(), source: source.into() })?;
        Ok(Self { writer, view })
    }

    /// Puts all changes on record, or none of them.
    ///
    /// # Errors
    /// [`Fault::Internal`] with what the store said.
    pub(crate) async fn put(&self, changes: Vec<Change>) -> Result<(), Fault> {
        let gone = || Fault::Internal("the records are closed".into());
        let (done, answer) = oneshot::channel();
        self.writer.send(Write { changes, done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Everything as it is now.
    pub(crate) fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.view.borrow())
    }

    /// Tells of each change, or of the last of several.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.view.clone()
    }
}

fn version(database: &Database) -> Result<Option<u32>, redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(FACTS) {
        Ok(facts) => Ok(facts.get("version")?.map(|found| found.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write_version(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(PODS)?;
    transaction.open_table(CONTAINERS)?;
    transaction.open_table(FACTS)?.insert("version", VERSION)?;
    Ok(transaction.commit()?)
}

fn read(database: &Database, path: &Path) -> Result<Snapshot, RecordError> {
    let pods = rows(database, PODS, path)?;
    let containers = rows(database, CONTAINERS, path)?;
    Ok(Snapshot { pods, containers })
}

fn rows<T: Message + Default>(
    database: &Database,
    table: TableDefinition<'_, &str, &[u8]>,
    path: &Path,
) -> Result<std::collections::BTreeMap<String, Arc<T>>, RecordError> {
    let file = |source: redb::Error| RecordError::File { path: path.into(), source: source.into() };
    let transaction = database.begin_read().map_err(|error| file(error.into()))?;
    let table = transaction.open_table(table).map_err(|error| file(error.into()))?;
    let mut rows = std::collections::BTreeMap::new();
    for entry in table.iter().map_err(|error| file(error.into()))? {
        let (id, bytes) = entry.map_err(|error| file(error.into()))?;
        let id = id.value().to_owned();
        let row = T::decode(bytes.value()).map_err(|source| RecordError::Row {
            path: path.into(),
            id: id.clone(),
            source,
        })?;
        rows.insert(id, Arc::new(row));
    }
    Ok(rows)
}

/// Takes changes until nobody can ask for any.
fn serve(
    database: &Database,
    mut writes: mpsc::Receiver<Write>,
    view: &watch::Sender<Arc<Snapshot>>,
) {
    let mut waiting = Vec::new();
    while writes.blocking_recv_many(&mut waiting, WAITING) > 0 {
        let committed = commit(database, waiting.iter().flat_map(|write| &write.changes));
        let result = committed.map_err(|error| {
            log::error!("writing the records of pods: {error}");
            Fault::Internal(format!("writing the records of pods: {error}"))
        });
        if result.is_ok() {
            let mut snapshot = Snapshot::clone(&view.borrow());
            waiting
                .iter()
                .flat_map(|write| &write.changes)
                .for_each(|change| apply(&mut snapshot, change));
            view.send_replace(Arc::new(snapshot));
        }
        for write in waiting.drain(..) {
            // Who asked may have gone; what it asked for is done.
            let _ = write.done.send(result.clone());
        }
    }
}

fn commit<'a>(
    database: &Database,
    changes: impl Iterator<Item = &'a Change>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut pods = transaction.open_table(PODS)?;
        let mut containers = transaction.open_table(CONTAINERS)?;
        for change in changes {
            match change {
                Change::Pod(row) => drop(pods.insert(&*row.id, &*row.encode_to_vec())?),
                Change::Container(row) => drop(containers.insert(&*row.id, &*row.encode_to_vec())?),
                Change::NoPod(id) => drop(pods.remove(&**id)?),
                Change::NoContainer(id) => drop(containers.remove(&**id)?),
            }
        }
    }
    Ok(transaction.commit()?)
}

fn apply(snapshot: &mut Snapshot, change: &Change) {
    match change {
        Change::Pod(row) => drop(snapshot.pods.insert(row.id.clone(), Arc::new((**row).clone()))),
        Change::Container(row) => {
            drop(snapshot.containers.insert(row.id.clone(), Arc::new((**row).clone())));
        }
        Change::NoPod(id) => drop(snapshot.pods.remove(id)),
        Change::NoContainer(id) => drop(snapshot.containers.remove(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::PodPhase;

    fn pod(id: &str) -> Change {
        let phase = PodPhase::Ready.into();
        Change::Pod(Box::new(Pod { id: id.into(), phase, ..Pod::default() }))
    }

    fn container(id: &str) -> Change {
        Change::Container(Box::new(Container { id: id.into(), ..Container::default() }))
    }

    #[tokio::test]
    async fn rows_are_there_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cri.redb");
        let records = Records::open(&path).unwrap();
        let changes = records.changes();
        records.put(vec![pod("a"), pod("b"), container("c")]).await.unwrap();
        assert!(changes.has_changed().unwrap());
        records.put(vec![Change::NoPod("a".into())]).await.unwrap();
        let before = records.now();
        assert_eq!(before.pods.keys().collect::<Vec<_>>(), ["b"]);
        drop((records, changes));
        // The writer's thread closes the file a moment after the last one who could ask.
        let again = loop {
            match Records::open(&path) {
                Err(RecordError::InUse(_)) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        assert_eq!(again.now(), before);
    }

    #[tokio::test]
    async fn second_daemon_is_refused_and_told_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cri.redb");
        let _first = Records::open(&path).unwrap();
        let error = Records::open(&path).unwrap_err().to_string();
        assert!(error.contains("another cuddyd") && error.contains("cri.redb"), "{error}");
    }

    #[test]
    fn records_of_a_later_release_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cri.redb");
        {
            let database = Database::create(&path).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(FACTS).unwrap().insert("version", VERSION + 1).unwrap();
            transaction.commit().unwrap();
        }
        let error = Records::open(&path).unwrap_err();
        assert!(matches!(error, RecordError::Newer { found: 2, .. }), "{error}");
    }

    #[test]
    fn row_that_makes_no_sense_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cri.redb");
        {
            let database = Database::create(&path).unwrap();
            write_version(&database).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(PODS).unwrap().insert("abc", &b"\xff\xff"[..]).unwrap();
            transaction.commit().unwrap();
        }
        let error = Records::open(&path).unwrap_err().to_string();
        assert!(error.contains("abc"), "{error}");
    }
}
