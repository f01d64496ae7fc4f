//! What is asked of the owner of a sandbox, one at a time.

use tokio::sync::mpsc;

use super::Owner;

/// A piece of work for the owner.
pub(super) type Step = Box<dyn FnOnce(&mut Owner) + Send>;

/// The way to the owner.
#[derive(Clone)]
pub(super) struct Steps(mpsc::UnboundedSender<Step>);

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Steps")
    }
}

impl Steps {
    pub(super) fn to(owner: mpsc::UnboundedSender<Step>) -> Self {
        Self(owner)
    }

    pub(super) fn send(&self, step: impl FnOnce(&mut Owner) + Send + 'static) {
        // The owner outlives all but the end of the process.
        let _gone = self.0.send(Box::new(step));
    }
}
