//! `cuddy pods`: the pods, whoever made them.

use std::process::ExitCode;
use std::time::SystemTime;

use protocol::cri::{PodSandbox, PodSandboxState};
use serde_json::{Value, json};

use crate::client::Client;
use crate::human::{age, short, since};
use crate::output;

/// List pods, those of a kubelet, too.
#[derive(Debug, clap::Args)]
pub(crate) struct PodsArgs {
    /// Print a stable structure for programs.
    #[arg(long)]
    json: bool,
}

impl PodsArgs {
    /// Lists them.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let pods = client.pods().await?;
        if self.json {
            output::json(&pods.iter().map(object).collect())?;
        } else {
            let now = SystemTime::now();
            let heads = ["POD ID", "NAMESPACE", "NAME", "CREATED", "STATE"];
            let rows = pods.iter().map(|pod| row(pod, now));
            output::print(output::table(&heads, rows).as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn state(pod: &PodSandbox) -> &'static str {
    match pod.state() {
        PodSandboxState::SandboxReady => "ready",
        PodSandboxState::SandboxNotready => "not ready",
    }
}

fn row(pod: &PodSandbox, now: SystemTime) -> Vec<String> {
    let metadata = pod.metadata.clone().unwrap_or_default();
    let created = format!("{} ago", age(since(pod.created_at, now)));
    vec![short(&pod.id), metadata.namespace, metadata.name, created, state(pod).to_owned()]
}

fn object(pod: &PodSandbox) -> Value {
    let metadata = pod.metadata.clone().unwrap_or_default();
    json!({
        "id": pod.id,
        "namespace": metadata.namespace,
        "name": metadata.name,
        "uid": metadata.uid,
        "attempt": metadata.attempt,
        "ready": pod.state() == PodSandboxState::SandboxReady,
        "createdAt": pod.created_at,
        "handler": pod.runtime_handler,
        "labels": pod.labels,
    })
}
