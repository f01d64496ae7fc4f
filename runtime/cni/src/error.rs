//! What can go wrong with a pod's attachment to its network.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::text::{printable, quoted};
use crate::verb::Verb;

/// Why something of CNI did not happen. Texts of plugins are in it, cut short and harmless.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the configuration can't be read.
    #[error("reading {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of the configuration is wrong.
    #[error("{}: {field}: {problem}", .path.display())]
    Conf {
        /// The file.
        path: PathBuf,
        /// The field, as `plugins[1].type`; `the file` for all of it.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no configuration.
    #[error("cni plugin not initialized: {0}")]
    NotInitialized(String),
    /// What the caller asks for can't be said to a plugin.
    #[error("{what}: {problem}")]
    Argument {
        /// What it is, as `the container's id`.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A plugin is not installed.
    #[error("CNI plugin {plugin} is in none of {}", list(.searched))]
    Missing {
        /// Its name.
        plugin: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// A plugin can't be executed.
    #[error("executing {} for {verb}", .path.display())]
    Start {
        /// Its program.
        path: PathBuf,
        /// What it was to do.
        verb: Verb,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A plugin says that it failed.
    #[error("CNI plugin {plugin} failed to {verb}: {msg}{} (code {code})", tail(.details))]
    Plugin {
        /// Its name.
        plugin: String,
        /// What it was to do.
        verb: Verb,
        /// Its number: below 100 of the specification, 11 for "try again later".
        code: u32,
        /// Its own words.
        msg: String,
        /// More of them, or none.
        details: String,
    },
    /// A plugin failed without saying so in the way of the specification.
    #[error("CNI plugin {plugin} failed to {verb}: {status}{}", tail(.said))]
    Failed {
        /// Its name.
        plugin: String,
        /// What it was to do.
        verb: Verb,
        /// How it ended.
        status: String,
        /// What it wrote instead.
        said: String,
    },
    /// A plugin's answer makes no sense.
    #[error("CNI plugin {plugin}, answer to {verb}: {problem}")]
    Answer {
        /// Its name.
        plugin: String,
        /// What it was to do.
        verb: Verb,
        /// What is wrong with it.
        problem: String,
    },
    /// A plugin was killed, with all that it started.
    #[error("CNI plugin {plugin} was killed: {verb} took longer than {limit:?}{}", tail(.said))]
    Deadline {
        /// Its name.
        plugin: String,
        /// What it was to do.
        verb: Verb,
        /// How long it was let run.
        limit: Duration,
        /// What it wrote to its error output.
        said: String,
    },
    /// An attachment failed half-way.
    #[error("{cause}{}", undone(.cleanup))]
    Attach {
        /// Why.
        cause: Box<Error>,
        /// Why undoing it failed, too. Then DEL has to be repeated.
        cleanup: Option<Box<Error>>,
    },
}

impl Error {
    pub(crate) fn conf(path: &Path, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Conf { path: path.to_owned(), field: field.into(), problem: problem.into() }
    }

    pub(crate) fn answer(plugin: &str, verb: Verb, problem: impl Into<String>) -> Self {
        Self::Answer { plugin: quoted(plugin), verb, problem: problem.into() }
    }

    /// The error and its causes in one line, for a status.
    pub fn whole(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        printable(&text)
    }
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    if names.is_empty() { "no directories at all".to_owned() } else { names.join(", ") }
}

fn tail(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

fn undone(cleanup: &Option<Box<Error>>) -> String {
    let said = |error: &Error| format!("; undoing it failed, too: {}", error.whole());
    cleanup.as_deref().map_or_else(String::new, said)
}
