//! `cuddy rm`: removes containers.

use std::process::ExitCode;

use anyhow::bail;

use crate::client::{Client, ClientError, NAME};
use crate::plan::OWN;
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
            let container = match client.container(name).await {
                Err(ClientError::NotFound(text)) => {
                    remove_left(client, name, text).await?;
                    continue;
                }
                found => found?,
            };
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

/// Removes a pod that a `cuddy run` has left which was killed before it made the container; fails
/// with `text` if there is none.
async fn remove_left(client: &Client, name: &str, text: String) -> anyhow::Result<()> {
    let pods = client.pods().await?;
    let called = pods.iter().find(|pod| {
        let own = pod.labels.contains_key(OWN);
        own && (pod.id == name || pod.labels.get(NAME).is_some_and(|own| own == name))
    });
    let Some(pod) = called else { bail!(text) };
    let containers = client.containers().await?;
    if let Some(one) = containers.iter().find(|one| one.pod_sandbox_id == pod.id) {
        let other = crate::human::short(&one.id);
        bail!("container {name:?} is gone, and {other} is in its pod still: remove that");
    }
    ending::remove_pod(client, &pod.id).await?;
    Ok(output::print(format!("{name}\n").as_bytes())?)
}
