//! What a companion is asked and what it answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest line of either side, in bytes.
pub(crate) const MAX_LINE: u64 = 64 << 10;

/// The outputs of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outputs {
    /// The container.
    pub id: String,
    /// The fifo of its standard output or its terminal, which exists; none if it has none.
    pub stdout: Option<PathBuf>,
    /// The fifo of its standard error, which exists; none if it has none.
    pub stderr: Option<PathBuf>,
    /// Its log; none if none is written.
    pub log: Option<PathBuf>,
    /// Most bytes of a line of the log.
    pub longest: usize,
}

/// Something that a companion is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// To take a container's outputs. Those that it has are left as they are.
    Open(Outputs),
    /// To go on in a new file at the log's path. The old one is complete and closed then.
    Reopen {
        /// The container.
        id: String,
    },
    /// To hand the outputs to fifos that somebody reads, from now on. Their ends are those of the
    /// outputs.
    Attach {
        /// The container.
        id: String,
        /// The fifo for standard output.
        stdout: Option<PathBuf>,
        /// The fifo for standard error.
        stderr: Option<PathBuf>,
    },
    /// To answer when all of a container's output is written, or stands still for ten seconds.
    Drain {
        /// The container.
        id: String,
    },
    /// To let go of a container's outputs, once they are written.
    Close {
        /// The container.
        id: String,
    },
    /// To end.
    End,
}

/// The answer.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// Why it was not done; none: it was.
    pub(crate) error: Option<String>,
}
