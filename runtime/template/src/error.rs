//! Why there is no template.

use std::io;
use std::path::PathBuf;

use crate::key::{Key, NotAKey};

/// Why a template was not made, found or used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file that it is made of is not there.
    #[error("looking at what templates are made of")]
    Inputs(#[source] io::Error),
    /// What it is made of can't be written down.
    #[error("writing down what the template is made of")]
    Recipe(#[source] serde_json::Error),
    /// A name that no template has.
    #[error(transparent)]
    Name(#[from] NotAKey),
    /// The store can't be used.
    #[error("{doing} {path}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A template can't be read, or is not what its name says.
    #[error("template {key}: {reason}")]
    Damaged {
        /// Its name.
        key: Key,
        /// What is wrong with it.
        reason: String,
    },
    /// Another builder is at work.
    #[error("another template is being built (by process {0})")]
    Busy(String),
    /// The settings want no templates.
    #[error("templates are not used: `templates` is \"none\", or `debug` is set")]
    Unwanted,
    /// The host or the store has no room.
    #[error("there is no room for a template: {0}")]
    NoRoom(String),
    /// A file has changed while the template was built from it.
    #[error("what the template is made of has changed while it was built")]
    Changed,
    /// The machine that was to be saved, or a clone of it, went wrong.
    #[error("{doing}: {source}")]
    Machine {
        /// What was being done.
        doing: &'static str,
        /// What went wrong.
        source: api::Error,
    },
}

impl TemplateError {
    /// A failure of a machine on the way to a template.
    pub(crate) fn machine(doing: &'static str) -> impl FnOnce(api::Error) -> Self {
        move |source| Self::Machine { doing, source }
    }
}
