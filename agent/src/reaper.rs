//! The one place where children are reaped. Orphans of all containers end up at the first
//! process; those that somebody registered for are reported, the others just vanish.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code, or 128 plus the number of the signal.
    pub(crate) status: u32,
    /// Nanoseconds since the Unix epoch.
    pub(crate) at_unix_ns: i64,
}

/// Who wants to know about which process.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    interests: Mutex<HashMap<i32, oneshot::Sender<Exit>>>,
}

impl Reaper {
    /// Asks for the exit of `pid`, which must not have been reaped yet: register while its
    /// parent still lives.
    pub(crate) fn register(&self, pid: i32) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        self.interests.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, sender);
        receiver
    }

    /// Reaps for ever. The returned future must be created before the first child exists.
    ///
    /// # Errors
    /// SIGCHLD cannot be watched.
    pub(crate) fn run(self: Arc<Self>) -> io::Result<impl Future<Output = ()>> {
        let children = signal(SignalKind::child())?;
        Ok(self.reap_on(children))
    }

    async fn reap_on(self: Arc<Self>, mut children: Signal) {
        while children.recv().await.is_some() {
            // One signal may stand for many children.
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                self.record(pid, status);
            }
        }
    }

    fn record(&self, pid: Pid, status: WaitStatus) {
        let pid = pid.as_raw_nonzero().get();
        let interest = self.interests.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
        if let Some(interest) = interest {
            // Nobody left to tell: the container is gone.
            let _ = interest.send(Exit { status: code(status), at_unix_ns: now_unix_ns() });
        }
    }
}

fn code(status: WaitStatus) -> u32 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u32::try_from(code).unwrap_or(255)
}

/// The guest's wall clock.
pub(crate) fn now_unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
