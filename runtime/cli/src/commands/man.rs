//! `cuddy man`: writes the manual, for packages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

/// Write a manual page for each verb.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Where to write them.
    directory: PathBuf,
}

impl ManArgs {
    /// Writes them.
    pub(crate) fn run(self, command: clap::Command) -> anyhow::Result<ExitCode> {
        let doing = || format!("writing manual pages to {}", self.directory.display());
        clap_mangen::generate_to(command, &self.directory).with_context(doing)?;
        Ok(ExitCode::SUCCESS)
    }
}
