//! `cuddy kill`: ends containers by force. The interface has no other signals.

use std::process::ExitCode;

use anyhow::bail;

use crate::client::Client;
use crate::{ending, output};

/// Kill containers at once, by SIGKILL.
#[derive(Debug, clap::Args)]
pub(crate) struct KillArgs {
    /// Names or ids.
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl KillArgs {
    /// Kills them one after the other, and prints what was said for each.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        for name in &self.containers {
            let container = client.container(name).await?;
            let is_to_run =
                ending::runs(&container) || ending::is_to_run_again(client, &container.id).await?;
            if !is_to_run {
                bail!("container {name:?} does not run");
            }
            ending::stop(client, &container.id, 0).await?;
            output::print(format!("{name}\n").as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
