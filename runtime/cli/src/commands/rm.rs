//! `cuddy rm`: removes containers.

use std::process::ExitCode;

use anyhow::bail;

use crate::client::{Client, NAME};
use crate::{ending, output};

/// Remove containers, with what they have written and their logs.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Kill those that run, and remove those of others, such as a kubelet's.
    #[arg(short, long)]
    force: bool,
    /// Names or ids.
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl RmArgs {
    /// Removes them one after the other, and prints what was said for each.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        for name in &self.containers {
            let container = client.container(name).await?;
            if !self.force && !container.labels.contains_key(NAME) {
                bail!(
                    "container {name:?} is not of `cuddy run`: whoever made it would miss it; use -f"
                );
            }
            if !self.force && ending::runs(&container) {
                bail!("container {name:?} runs: stop it first, or use -f");
            }
            ending::remove(client, &container).await?;
            output::print(format!("{name}\n").as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
