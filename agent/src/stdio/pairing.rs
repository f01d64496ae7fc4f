//! Pairs stream connections with the processes that name them. Either may come first.
//!
//! A connection states its id in its first 8 bytes; a process claims an id. What waits is
//! bounded: [`MAX_WAITING`] connections, each for [`CONNECTION_PATIENCE`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::socket::Connection;

/// Connections that may wait for a process: three each of 340 that start at once. The attack: a
/// host process that only connects.
const MAX_WAITING: usize = 1024;

/// How long a connection waits for its process.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(30);

/// How long a process waits for its connection.
const CLAIM_PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may take to state its id.
const IDENTIFY_PATIENCE: Duration = Duration::from_secs(10);

/// Pause after a failed accept(2), which would fail again at once.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A stream that did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// No connection stated the id in time.
    #[error("stream {0} was not connected within {CLAIM_PATIENCE:?}")]
    Missing(NonZeroU64),
    /// Two processes name the same stream.
    #[error("stream {0} is claimed twice")]
    ClaimedTwice(NonZeroU64),
}

/// What is known about one id.
#[derive(Debug)]
enum Half<C> {
    Connected { connection: C, since: Instant },
    Claimed(oneshot::Sender<C>),
}

/// The table behind [`Streams`]; generic for its tests.
#[derive(Debug)]
struct Table<C> {
    halves: HashMap<NonZeroU64, Half<C>>,
}

impl<C> Table<C> {
    /// A connection has stated its id. It is dropped when the id is taken or too many wait.
    fn connect(&mut self, id: NonZeroU64, connection: C, now: Instant) {
        self.halves.retain(|_, half| match half {
            Half::Connected { since, .. } => now.duration_since(*since) < CONNECTION_PATIENCE,
            Half::Claimed(claim) => !claim.is_closed(),
        });
        let waiting =
            self.halves.values().filter(|half| matches!(half, Half::Connected { .. })).count();
        match self.halves.entry(id) {
            Entry::Occupied(entry) if matches!(entry.get(), Half::Claimed(_)) => {
                if let Half::Claimed(claim) = entry.remove() {
                    // A claimant that has just given up: nobody wants the connection.
                    let _ = claim.send(connection);
                }
            }
            Entry::Occupied(_) => log::warn!("stream {id} is connected twice"),
            Entry::Vacant(_) if waiting >= MAX_WAITING => {
                log::warn!("stream {id} refused: {waiting} wait already");
            }
            Entry::Vacant(entry) => {
                entry.insert(Half::Connected { connection, since: now });
            }
        }
    }

    /// A process names an id: the connection, or where it will arrive.
    fn claim(&mut self, id: NonZeroU64) -> Result<Claim<C>, StreamError> {
        match self.halves.remove(&id) {
            Some(Half::Connected { connection, .. }) => Ok(Claim::Here(connection)),
            Some(Half::Claimed(claim)) if !claim.is_closed() => {
                self.halves.insert(id, Half::Claimed(claim));
                Err(StreamError::ClaimedTwice(id))
            }
            _ => {
                let (sender, receiver) = oneshot::channel();
                self.halves.insert(id, Half::Claimed(sender));
                Ok(Claim::Awaited(receiver))
            }
        }
    }
}

#[derive(Debug)]
enum Claim<C> {
    Here(C),
    Awaited(oneshot::Receiver<C>),
}

/// Stream connections that wait for their process, and processes that wait for theirs.
#[derive(Debug)]
pub(crate) struct Streams(Mutex<Table<Connection>>);

impl Default for Streams {
    fn default() -> Self {
        Self(Mutex::new(Table { halves: HashMap::new() }))
    }
}

impl Streams {
    /// Waits for the connection that states `id`; `None` for id 0, which means no stream.
    ///
    /// # Errors
    /// It does not come in time, or another process claims it too.
    pub(crate) async fn claim(&self, id: u64) -> Result<Option<Connection>, StreamError> {
        let Some(id) = NonZeroU64::new(id) else { return Ok(None) };
        let claim = self.0.lock().unwrap_or_else(PoisonError::into_inner).claim(id)?;
        match claim {
            Claim::Here(connection) => Ok(Some(connection)),
            Claim::Awaited(receiver) => {
                match tokio::time::timeout(CLAIM_PATIENCE, receiver).await {
                    Ok(Ok(connection)) => Ok(Some(connection)),
                    _ => Err(StreamError::Missing(id)),
                }
            }
        }
    }
}

/// Reads a connection's id and files it.
pub(super) async fn identify(connection: Connection, streams: Arc<Streams>) {
    match tokio::time::timeout(IDENTIFY_PATIENCE, read_id(&connection)).await {
        Ok(Ok(Some(id))) => streams.0.lock().unwrap_or_else(PoisonError::into_inner).connect(
            id,
            connection,
            Instant::now(),
        ),
        Ok(Ok(None)) => log::warn!("a stream without an id"),
        Ok(Err(error)) => log::warn!("read the id of a stream: {error}"),
        Err(_) => log::warn!("a stream did not state its id"),
    }
}

async fn read_id(connection: &Connection) -> std::io::Result<Option<NonZeroU64>> {
    let mut id = [0; 8];
    let mut filled = 0;
    while filled < id.len() {
        match connection.receive(&mut id[filled..]).await? {
            0 => return Ok(None),
            count => filled += count,
        }
    }
    Ok(NonZeroU64::new(u64::from_le_bytes(id)))
}

#[cfg(test)]
mod tests {
    use super::{CONNECTION_PATIENCE, Claim, MAX_WAITING, StreamError, Table};
    use std::collections::HashMap;
    use std::num::NonZeroU64;
    use std::time::Instant;

    fn table() -> Table<u32> {
        Table { halves: HashMap::new() }
    }

    fn id(id: u64) -> NonZeroU64 {
        NonZeroU64::new(id).unwrap()
    }

    #[test]
    fn a_connection_may_come_first() {
        let mut table = table();
        table.connect(id(7), 70, Instant::now());
        assert!(matches!(table.claim(id(7)), Ok(Claim::Here(70))));
        assert!(table.halves.is_empty());
    }

    #[test]
    fn a_claim_may_come_first() {
        let mut table = table();
        let Ok(Claim::Awaited(mut receiver)) = table.claim(id(7)) else { panic!("not there") };
        assert!(matches!(table.claim(id(7)), Err(StreamError::ClaimedTwice(_))));
        table.connect(id(7), 70, Instant::now());
        assert_eq!(receiver.try_recv(), Ok(70));
    }

    #[test]
    fn an_abandoned_claim_does_not_eat_the_next() {
        let mut table = table();
        drop(table.claim(id(7)));
        assert!(matches!(table.claim(id(7)), Ok(Claim::Awaited(_))));
    }

    #[test]
    fn waiting_connections_are_bounded_and_expire() {
        let mut table = table();
        let now = Instant::now();
        for number in 1..=MAX_WAITING as u64 + 10 {
            table.connect(id(number), 0, now);
        }
        assert_eq!(table.halves.len(), MAX_WAITING);
        table.connect(id(u64::MAX), 0, now + CONNECTION_PATIENCE);
        assert_eq!(table.halves.len(), 1);
    }

    #[test]
    fn a_hundred_processes_that_start_at_once_find_their_streams() {
        let mut table = table();
        let now = Instant::now();
        (1..=300_u32).for_each(|number| table.connect(id(number.into()), number, now));
        for number in 1..=300_u32 {
            let claimed = table.claim(id(number.into()));
            assert!(matches!(claimed, Ok(Claim::Here(found)) if found == number));
        }
    }

    #[test]
    fn a_second_connection_does_not_replace_the_first() {
        let mut table = table();
        table.connect(id(7), 70, Instant::now());
        table.connect(id(7), 71, Instant::now());
        assert!(matches!(table.claim(id(7)), Ok(Claim::Here(70))));
    }
}
