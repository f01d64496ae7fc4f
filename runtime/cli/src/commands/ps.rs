//! `cuddy ps`: the containers.

use std::process::ExitCode;
use std::time::SystemTime;

use protocol::cri::{Container, ContainerState, ContainerStatus};
use serde_json::{Value, json};

use crate::client::{Client, NAME};
use crate::human::{age, short, since, state_word};
use crate::output;
use crate::plan::PORTS;

/// List containers.
#[derive(Debug, clap::Args)]
pub(crate) struct PsArgs {
    /// Also those that do not run.
    #[arg(short, long)]
    all: bool,
    /// Also those of others, such as a kubelet's.
    #[arg(short = 'A', long)]
    all_owners: bool,
    /// Print ids only.
    #[arg(short, long)]
    quiet: bool,
    /// Print a stable structure for programs.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

impl PsArgs {
    /// Lists them.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let mut all = client.containers().await?;
        all.retain(|one| {
            let own = one.labels.contains_key(NAME) || self.all_owners;
            own && (self.all || one.state() == ContainerState::ContainerRunning)
        });
        if self.quiet {
            let ids: String = all.iter().map(|one| one.id.clone() + "\n").collect();
            output::print(ids.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut shown = Vec::new();
        for one in &all {
            // It may have gone meanwhile.
            if let Ok((status, _)) = client.status(&one.id).await {
                shown.push((one, status));
            }
        }
        if self.json {
            output::json(&shown.iter().map(|(one, status)| object(one, status)).collect())?;
        } else {
            let now = SystemTime::now();
            let heads = ["CONTAINER ID", "NAME", "IMAGE", "CREATED", "STATUS", "PORTS"];
            let rows = shown.iter().map(|(one, status)| row(one, status, now));
            output::print(output::table(&heads, rows).as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A container's name: that of the user's, or its pod's for it.
fn name(one: &Container) -> String {
    let own = one.labels.get(NAME).cloned();
    own.or_else(|| one.metadata.clone().map(|metadata| metadata.name)).unwrap_or_default()
}

/// Its image as the user wrote it, or its id.
fn image(one: &Container) -> String {
    let spec = one.image.clone().unwrap_or_default();
    match spec.user_specified_image.is_empty() {
        true => short(&one.image_id),
        false => spec.user_specified_image,
    }
}

fn row(one: &Container, status: &ContainerStatus, now: SystemTime) -> Vec<String> {
    let created = format!("{} ago", age(since(one.created_at, now)));
    let ports = one.annotations.get(PORTS).cloned().unwrap_or_default();
    vec![short(&one.id), name(one), image(one), created, state(status, now), ports]
}

/// How it is, in words (pure).
fn state(status: &ContainerStatus, now: SystemTime) -> String {
    match status.state() {
        ContainerState::ContainerCreated => "Created".to_owned(),
        ContainerState::ContainerRunning => format!("Up {}", age(since(status.started_at, now))),
        ContainerState::ContainerExited => {
            let at = age(since(status.finished_at, now));
            let reason = match &*status.reason {
                "" | "Completed" | "Error" => String::new(),
                reason => format!(", {reason}"),
            };
            format!("Exited ({}{reason}) {at} ago", status.exit_code)
        }
        ContainerState::ContainerUnknown => "Unknown".to_owned(),
    }
}

fn object(one: &Container, status: &ContainerStatus) -> Value {
    let state = state_word(status.state());
    json!({
        "id": one.id,
        "name": name(one),
        "pod": one.pod_sandbox_id,
        "image": image(one),
        "imageId": one.image_id,
        "state": state,
        "createdAt": status.created_at,
        "startedAt": status.started_at,
        "finishedAt": status.finished_at,
        "exitCode": status.exit_code,
        "reason": status.reason,
        "labels": one.labels,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn state_says_since_when_and_how_it_ended() {
        let now = UNIX_EPOCH + Duration::from_secs(600);
        let running = ContainerState::ContainerRunning.into();
        let up = ContainerStatus { state: running, started_at: 1, ..ContainerStatus::default() };
        assert_eq!(state(&up, now), "Up 9 minutes");
        let ended = ContainerStatus {
            state: ContainerState::ContainerExited.into(),
            finished_at: 540_000_000_000,
            exit_code: 137,
            reason: "OOMKilled".into(),
            ..ContainerStatus::default()
        };
        assert_eq!(state(&ended, now), "Exited (137, OOMKilled) 1 minute ago");
        let ended = ContainerStatus { exit_code: 0, reason: "Completed".into(), ..ended };
        assert_eq!(state(&ended, now), "Exited (0) 1 minute ago");
    }
}
