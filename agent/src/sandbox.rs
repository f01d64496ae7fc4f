//! The guest as a whole: what containers, streams and processes there are.

use std::sync::Arc;

use crate::stdio::Streams;

/// Owner of everything that the services act on.
#[derive(Debug)]
pub(crate) struct Sandbox {
    streams: Arc<Streams>,
}

impl Sandbox {
    /// An empty sandbox.
    pub(crate) fn new() -> Self {
        Self { streams: Arc::new(Streams::default()) }
    }

    /// Stream connections of the host.
    pub(crate) fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }
}
