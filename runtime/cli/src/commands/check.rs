//! `cuddy check`: one page that tells whether this machine can run pods.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::check::{self, Places, table};

/// Tell whether this machine can run pods and, if not, why and what to do.
///
/// Exit status: 0 usable, 1 not usable, 2 wrong usage.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Print a stable structure for programs instead of a page.
    #[arg(long)]
    json: bool,
    /// containerd's configuration file [default: that of the running containerd, else
    /// /etc/containerd/config.toml].
    #[arg(long, value_name = "FILE")]
    containerd_config: Option<PathBuf>,
}

impl CheckArgs {
    /// Runs the checks and prints the result.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let report = check::run(&Places { containerd_config: self.containerd_config });
        let text = if self.json {
            serde_json::to_string_pretty(&report)? + "\n"
        } else {
            table::render(&report, colours())
        };
        io::stdout().write_all(text.as_bytes())?;
        Ok(if report.usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Colours are for terminals whose user has not asked for none (<https://no-color.org>).
fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !unwanted && io::stdout().is_terminal()
}
