//! What the host may ask for. A guest may be one of many clones of a saved machine, which all know
//! the same secrets until `Configure` gives each its own. So nothing of a workload happens before.
//!
//! ```text
//! New ──Configure──► Configuring ──done──► Configured
//!  │ ▲                    └──failed──► New
//!  └─┴─ Warm, which ends in New whether it fails or not
//! ```

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::socket::{Connection, Listener};

/// What a guest does not do at its stage, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(&'static str);

/// Where the guest is on its way to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    New,
    Warming,
    Configuring,
    Configured,
}

/// The guest's stage. All that the host reaches the guest by looks here.
#[derive(Debug, Default)]
pub(crate) struct Admission(Mutex<Stage>);

impl Admission {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the guest is configured.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        match *self.stage() {
            Stage::Configured => Ok(()),
            _ => Err(Refusal("the sandbox is not configured yet")),
        }
    }

    /// Begins to warm the guest.
    ///
    /// # Errors
    /// It is configured, or something else is done to it.
    pub(crate) fn warm(self: &Arc<Self>) -> Result<Turn, Refusal> {
        self.begin(Stage::Warming)
    }

    /// Begins to configure the guest.
    ///
    /// # Errors
    /// It is configured, or something else is done to it.
    pub(crate) fn configure(self: &Arc<Self>) -> Result<Turn, Refusal> {
        self.begin(Stage::Configuring)
    }

    fn begin(self: &Arc<Self>, next: Stage) -> Result<Turn, Refusal> {
        let mut stage = self.stage();
        match *stage {
            Stage::New => *stage = next,
            Stage::Warming => return Err(Refusal("the sandbox is being warmed")),
            Stage::Configuring => return Err(Refusal("the sandbox is being configured")),
            Stage::Configured => return Err(Refusal("the sandbox is configured already")),
        }
        Ok(Turn(Arc::clone(self)))
    }
}

/// The right to do something to a guest that is not configured. Whoever has it is the only one.
/// Dropped, it leaves the guest as unconfigured as before.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Admission>);

impl Turn {
    /// From now on the guest is configured.
    pub(crate) fn configured(self) {
        *self.0.stage() = Stage::Configured;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut stage = self.0.stage();
        if *stage != Stage::Configured {
            *stage = Stage::New;
        }
    }
}

/// A listener that closes what comes before the guest is configured.
#[derive(Debug)]
pub(crate) struct Entrance {
    listener: Listener,
    admission: Arc<Admission>,
}

impl Entrance {
    /// Watches over a listener.
    pub(crate) fn new(listener: Listener, admission: &Arc<Admission>) -> Self {
        Self { listener, admission: Arc::clone(admission) }
    }

    /// Accepts the next connection to a configured guest.
    pub(crate) async fn accept(&self) -> io::Result<Connection> {
        loop {
            let connection = self.listener.accept().await?;
            match self.admission.check() {
                Ok(()) => return Ok(connection),
                Err(error) => log::warn!("a connection was closed: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    #[test]
    fn only_a_guest_that_was_configured_is_open() {
        let admission = Arc::new(Admission::default());
        assert!(admission.check().is_err());
        let turn = admission.configure().unwrap();
        assert!(admission.check().is_err(), "open while it is configured");
        drop(turn);
        assert!(admission.check().is_err(), "open after a failure");
        admission.configure().unwrap().configured();
        admission.check().unwrap();
        let again = admission.configure().unwrap_err().to_string();
        assert_eq!(again, "the sandbox is configured already");
        assert!(admission.warm().is_err());
        admission.check().unwrap();
    }

    #[test]
    fn one_thing_is_done_to_a_new_guest_at_a_time() {
        let admission = Arc::new(Admission::default());
        let turn = admission.warm().unwrap();
        assert!(admission.check().is_err());
        let busy = admission.configure().unwrap_err().to_string();
        assert_eq!(busy, "the sandbox is being warmed");
        assert!(admission.warm().is_err());
        drop(turn);
        let turn = admission.configure().unwrap();
        let busy = admission.warm().unwrap_err().to_string();
        assert_eq!(busy, "the sandbox is being configured");
        assert!(admission.configure().is_err());
        drop(turn);
        admission.warm().unwrap();
    }

    #[tokio::test]
    async fn connections_of_an_unconfigured_guest_are_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("entrance");
        let admission = Arc::new(Admission::default());
        let entrance = Entrance::new(Listener::unix(&path).unwrap(), &admission);
        let accepting = tokio::spawn(async move { entrance.accept().await.map(drop) });
        let mut early = UnixStream::connect(&path).await.unwrap();
        assert_eq!(early.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(!accepting.is_finished());
        admission.configure().unwrap().configured();
        let _client = UnixStream::connect(&path).await.unwrap();
        accepting.await.unwrap().unwrap();
    }
}
