//! `cuddy start`: starts containers that were created and not started.

use std::process::ExitCode;

use anyhow::bail;
use protocol::cri::{ContainerState, StartContainerRequest};

use crate::client::{Client, answer};
use crate::output;

/// Start containers that were created. One that has ended can't be started again.
#[derive(Debug, clap::Args)]
pub(crate) struct StartArgs {
    /// Names or ids.
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl StartArgs {
    /// Starts them one after the other, and prints what was said for each.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        for name in &self.containers {
            let container = client.container(name).await?;
            if container.state() == ContainerState::ContainerExited {
                bail!("container {name:?} has ended: `cuddy run` makes another one");
            }
            let request = StartContainerRequest { container_id: container.id };
            answer(client.runtime().start_container(request).await)?;
            output::print(format!("{name}\n").as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
