//! A shim that serves, by one connection to it.

use std::io;
use std::path::Path;
use std::time::Duration;

use containerd_shim_protos::api::{ConnectRequest, ConnectResponse};
use protobuf::Message;

use crate::bundle::{self, BundleError};
use crate::connection::{Call, Connection};
use crate::endpoint::{Endpoint, TaskVersion};
use crate::error::Error;
use crate::shim_log;

/// Attempts at a shim that hangs up before its first answer.
const ATTEMPTS: u32 = 10;

/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(100);

/// A shim; cheap to clone. The drop of the last one, and of what was made from it, hangs up, which
/// the shim does not mind.
///
/// All calls have a limit, but for those that wait for an end. Who stops waiting for an answer has
/// not undone the call.
#[derive(Debug, Clone)]
pub struct Shim {
    connection: Connection,
    version: TaskVersion,
    pid: u32,
    limit: Option<Duration>,
}

impl Shim {
    /// Connects to the shim that was started in `bundle`, possibly by an earlier run of this
    /// program, and asks whether it lives, all within `limit`.
    ///
    /// # Errors
    /// [`Error::Gone`] when nobody listens; [`Error::DeadlineExceeded`] when somebody does but does
    /// not answer; [`Error::Disconnected`] when it hangs up each time; [`Error::Other`] when the
    /// bundle makes no sense.
    pub async fn reconnect(bundle: &Path, limit: Duration) -> Result<Self, Error> {
        let id = bundle.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let doing = format!("connecting to the shim of {}", bundle.display());
        let endpoint = bundle::read(bundle).await.map_err(|error| match error {
            BundleError::None => Error::Gone(format!("{doing}: {error}")),
            _ => Error::Other(format!("{doing}: {error}")),
        })?;
        let (shim, _) = Self::connect_to(endpoint, &id, limit).await?;
        match shim_log::open(bundle) {
            Ok(log) => shim_log::follow(log, id, &shim.connection),
            Err(error) => log::warn!("{doing}: opening its log: {error}"),
        }
        Ok(shim)
    }

    /// Connects to the shim behind `endpoint` and has its first answer. A pod's shim may be older
    /// than the binary that told where it is, and know a lower version only: then it is that one's
    /// endpoint which is returned.
    ///
    /// # Errors
    /// As [`Self::reconnect`].
    pub(crate) async fn connect_to(
        mut endpoint: Endpoint,
        id: &str,
        limit: Duration,
    ) -> Result<(Self, Endpoint), Error> {
        let doing = format!("connecting to the shim at {}", endpoint.socket.display());
        let met = tokio::time::timeout(limit, Self::meet(&endpoint, id, &doing)).await;
        let shim = met.map_err(|_| {
            let text = format!("{doing}: somebody listens, but no answer for {limit:?}");
            Error::DeadlineExceeded(text)
        })??;
        endpoint.version = shim.version;
        Ok((shim, endpoint))
    }

    /// Connects and asks. Who hangs up is asked again: a process that was killed takes a while to
    /// let go of its socket, and is gone then.
    async fn meet(endpoint: &Endpoint, id: &str, doing: &str) -> Result<Self, Error> {
        let mut attempts = 1..ATTEMPTS;
        loop {
            let connection = Connection::dial(&endpoint.socket).await.map_err(|error| {
                let text = format!("{doing}: {error}");
                match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::Gone(text),
                    _ => Error::Other(text),
                }
            })?;
            let shim = Self { connection, version: endpoint.version, pid: 0, limit: None };
            match shim.greeted(id, doing).await {
                Err(Error::Disconnected(_)) if attempts.next().is_some() => {
                    tokio::time::sleep(PAUSE).await;
                }
                met => return met,
            }
        }
    }

    /// Finds out by a first question which version is spoken, and the process.
    async fn greeted(mut self, id: &str, doing: &str) -> Result<Self, Error> {
        let mut hello = self.hello(id, doing).await;
        if matches!(hello, Err(Error::Unimplemented(_))) {
            self.version = TaskVersion::V2;
            hello = self.hello(id, doing).await;
        }
        match hello {
            Ok(hello) => self.pid = hello.shim_pid,
            Err(error @ (Error::Disconnected(_) | Error::Unimplemented(_))) => return Err(error),
            // Whatever it answers, it lives.
            Err(error) => log::debug!("{error}"),
        }
        Ok(self)
    }

    async fn hello(&self, id: &str, doing: &str) -> Result<ConnectResponse, Error> {
        let request = ConnectRequest { id: id.to_owned(), ..ConnectRequest::default() };
        let call = Call { service: self.version.service(), method: "Connect", doing };
        self.connection.call(call, &request, None).await
    }

    /// The same shim, whose calls take no longer than this, as when a caller of one's own has a
    /// deadline.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self.clone() }
    }

    /// Which Task service it has.
    pub fn version(&self) -> TaskVersion {
        self.version
    }

    /// Its process id; 0 if it did not say.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the connection is over: the shim has ended, or hung up. All calls fail then.
    pub async fn closed(&self) {
        self.connection.ending().await;
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Makes a call and waits for its answer, for as long as the call and this handle may take.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub(crate) async fn ask<T: Message>(
        &self,
        limit: Duration,
        call: Call<'_>,
        message: &impl Message,
    ) -> Result<T, Error> {
        let limit = self.limit.map_or(limit, |own| own.min(limit));
        self.connection.call(call, message, Some(limit)).await
    }
}
