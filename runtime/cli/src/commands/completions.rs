//! `cuddy completions`: what a shell completes.

use std::process::ExitCode;

use clap_complete::{Shell, generate};

use crate::output;

/// Print the completions of a shell.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints them.
    pub(crate) fn run(self, mut command: clap::Command) -> anyhow::Result<ExitCode> {
        let mut text = Vec::new();
        generate(self.shell, &mut command, "cuddy", &mut text);
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
