//! What the tasks of a server share: its limits, what waits for its client, and the signals to end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::Limits;
use crate::session::Session;
use crate::token::Tokens;

/// What the server's tasks share.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) sessions: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    /// Sessions are to end in order.
    pub(crate) stop: CancellationToken,
    /// Sessions are to end.
    pub(crate) kill: CancellationToken,
    pub(crate) handshakes: Arc<Semaphore>,
    waiting: Mutex<Tokens<Session>>,
}

impl Shared {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            sessions: Arc::new(Semaphore::new(limits.sessions)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            waiting: Mutex::new(Tokens::new(limits.tokens, limits.token)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            limits,
        }
    }

    pub(crate) fn tokens(&self) -> MutexGuard<'_, Tokens<Session>> {
        // Whoever panicked left whole entries.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
