//! `cuddy stop`: ends containers.

use std::process::ExitCode;

use crate::client::Client;
use crate::{ending, output};

/// Stop containers: by their stop signal first, by force after the grace.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// The grace, in seconds.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10)]
    time: u32,
    /// Names or ids.
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl StopArgs {
    /// Stops them one after the other, and prints what was said for each.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        for name in &self.containers {
            let container = client.container(name).await?;
            ending::stop(client, &container.id, self.time).await?;
            output::print(format!("{name}\n").as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
