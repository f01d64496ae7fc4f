//! The process that brings images here, converts and packs them: this program in another role.
//!
//! What a registry or an archive sends is a stranger's: HTTP, TLS, decompression, tar. A process
//! without rights reads it. The daemon has the store, and believes what it can check.
//!
//! ```text
//! daemon (root)                                 worker (no rights), one for each pull, load, save
//!   first job ──────────────────────────────►     reads the node's files that the job needs
//!                                                 jails itself
//!   a socket for each job, and its files ───►     network, inflate, tar ─► the file of a layer
//!   checks, keeps, commits          ◄─── told     how far it is, documents, why not
//!   lets go ─► SIGKILL
//! ```
//! - Jobs come by a socket of messages, each with descriptors. What is told comes by the job's own.
//! - A job whose socket the daemon shuts is given up. Its socket is closed when all of it has ended.
//! - No descriptor goes to the daemon, and no message from it is large ([`words`]).
//! - A worker ends with the daemon, and when nobody has it any more.
//!
//! docs/decisions/image-worker.md says what a worker that is taken over could do.

mod filter;
mod jail;
mod process;
mod role;
pub mod words;

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) use process::{Call, Worker};
pub use process::{Launcher, WorkerError};
pub use role::run;

/// The program's first argument in this role.
const WORD: &str = "image-worker";

impl Launcher {
    /// This program, which looks at [`is_asked`] before all else.
    pub fn this_program() -> Self {
        Self::new("/proc/self/exe".into(), vec![WORD.into()])
    }

    /// Another program with arguments, which calls [`run`].
    pub(crate) fn new(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { program, arguments }
    }
}

/// Whether this program was started as a worker: [`run`] is what it is to do.
pub fn is_asked() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == WORD)
}

#[cfg(test)]
pub(crate) mod tests;
