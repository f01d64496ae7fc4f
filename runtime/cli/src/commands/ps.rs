//! `cuddy ps`: the containers.

use std::process::ExitCode;
use std::time::SystemTime;

use protocol::cri::{Container, ContainerState, ContainerStatus};
use serde_json::{Value, json};

use crate::client::{Client, ClientError, NAME};
use crate::human::{age, short, since, state_word};
use crate::options::restart;
use crate::output;
use crate::plan::PORTS;
use crate::restarts::Restarts;

/// List containers.
#[derive(Debug, clap::Args)]
pub(crate) struct PsArgs {
    /// Also those that do not run, and are not to run again.
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
        let shown = self.shown(client).await?;
        if self.quiet {
            let ids: String = shown.iter().map(|one| one.container.id.clone() + "\n").collect();
            output::print(ids.as_bytes())?;
        } else if self.json {
            output::json(&shown.iter().map(Shown::object).collect())?;
        } else {
            let now = SystemTime::now();
            let heads = ["CONTAINER ID", "NAME", "IMAGE", "CREATED", "STATUS", "PORTS"];
            let rows = shown.iter().map(|one| one.row(now));
            output::print(output::table(&heads, rows).as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn shown(&self, client: &Client) -> Result<Vec<Shown>, ClientError> {
        let mut shown = Vec::new();
        for container in client.containers().await? {
            let runs = container.state() == ContainerState::ContainerRunning;
            let may = runs || container.annotations.contains_key(restart::ANNOTATION);
            let own = container.labels.contains_key(NAME) || self.all_owners;
            if !own || !(self.all || may) {
                continue;
            }
            // It may have gone meanwhile.
            let Ok((status, info)) = client.status(&container.id).await else { continue };
            let restarts = Restarts::read(&info);
            if self.all || runs || restarts.at.is_some() {
                shown.push(Shown { container, status, restarts });
            }
        }
        Ok(shown)
    }
}

/// A container of the list.
struct Shown {
    container: Container,
    status: ContainerStatus,
    restarts: Restarts,
}

impl Shown {
    fn row(&self, now: SystemTime) -> Vec<String> {
        let one = &self.container;
        let created = format!("{} ago", age(since(one.created_at, now)));
        let ports = one.annotations.get(PORTS).cloned().unwrap_or_default();
        let state = state(&self.status, self.restarts, now);
        vec![short(&one.id), name(one), image(one), created, state, ports]
    }

    fn object(&self) -> Value {
        let Self { container: one, status, restarts } = self;
        json!({
            "id": one.id,
            "name": name(one),
            "pod": one.pod_sandbox_id,
            "image": image(one),
            "imageId": one.image_id,
            "state": state_word(status.state()),
            "createdAt": status.created_at,
            "startedAt": status.started_at,
            "finishedAt": status.finished_at,
            "exitCode": status.exit_code,
            "reason": status.reason,
            "restarts": restarts.count,
            "restartAt": restarts.at,
            "labels": one.labels,
        })
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

/// How it is, in words (pure).
fn state(status: &ContainerStatus, restarts: Restarts, now: SystemTime) -> String {
    if let Some(coming) = restarts.coming(status.exit_code, now) {
        return coming;
    }
    match status.state() {
        ContainerState::ContainerCreated => "Created".to_owned(),
        ContainerState::ContainerRunning => {
            format!("Up {}{}", age(since(status.started_at, now)), restarts.past())
        }
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn state_says_since_when_and_how_it_ended() {
        let now = UNIX_EPOCH + Duration::from_secs(600);
        let running = ContainerState::ContainerRunning.into();
        let up = ContainerStatus { state: running, started_at: 1, ..ContainerStatus::default() };
        let never = Restarts::default();
        assert_eq!(state(&up, never, now), "Up 9 minutes");
        let twice = Restarts { count: 2, at: None };
        assert_eq!(state(&up, twice, now), "Up 9 minutes, restarted 2 times");
        let ended = ContainerStatus {
            state: ContainerState::ContainerExited.into(),
            finished_at: 540_000_000_000,
            exit_code: 137,
            reason: "OOMKilled".into(),
            ..ContainerStatus::default()
        };
        assert_eq!(state(&ended, never, now), "Exited (137, OOMKilled) 1 minute ago");
        let ended = ContainerStatus { exit_code: 0, reason: "Completed".into(), ..ended };
        assert_eq!(state(&ended, never, now), "Exited (0) 1 minute ago");
    }
}
