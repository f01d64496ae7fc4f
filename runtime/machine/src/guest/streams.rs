//! The streams of a process, each by its number.

use agent_api::types;

/// Numbers of a process's streams on the vsock; 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamIds {
    /// Input.
    pub stdin: u64,
    /// Output, or both outputs with a terminal.
    pub stdout: u64,
    /// Error output.
    pub stderr: u64,
}

impl From<StreamIds> for types::Streams {
    fn from(ids: StreamIds) -> Self {
        let StreamIds { stdin, stdout, stderr } = ids;
        Self { stdin, stdout, stderr, ..Self::default() }
    }
}
