//! `cuddy stats`: what containers use.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use protocol::cri::{ContainerStats, ListContainerStatsRequest, UInt64Value};
use serde_json::{Value, json};

use crate::client::{Client, ClientError, NAME, answer};
use crate::human::{short, size};
use crate::output;

/// Between the two looks at what CPUs have done.
const APART: Duration = Duration::from_secs(1);

/// Show what containers use, once.
#[derive(Debug, clap::Args)]
pub(crate) struct StatsArgs {
    /// Print a stable structure for programs.
    #[arg(long)]
    json: bool,
    /// Names or ids [default: all that run].
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl StatsArgs {
    /// Looks twice, a second apart.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let mut wanted = Vec::new();
        for name in &self.containers {
            wanted.push(client.container(name).await?.id);
        }
        let before = all(client).await?;
        tokio::time::sleep(APART).await;
        let mut usages = usages(&before, &all(client).await?);
        usages.retain(|usage| wanted.is_empty() || wanted.contains(&usage.id));
        if self.json {
            output::json(&usages.iter().map(Usage::object).collect())?;
        } else {
            output::print(table(&usages).as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What a container uses.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Usage {
    id: String,
    name: String,
    /// Thousandths of a CPU; none if two looks did not tell.
    cpu: Option<u64>,
    memory: u64,
    /// What is left of its memory; none without a limit.
    available: Option<u64>,
    disk: u64,
}

/// Looks at all containers that run.
///
/// # Errors
/// [`ClientError::Refused`].
pub(super) async fn all(client: &Client) -> Result<Vec<ContainerStats>, ClientError> {
    let request = ListContainerStatsRequest::default();
    Ok(answer(client.runtime().list_container_stats(request).await)?.stats)
}

/// What containers use, by two looks at them (pure).
pub(super) fn usages(before: &[ContainerStats], now: &[ContainerStats]) -> Vec<Usage> {
    let times: HashMap<_, _> =
        before.iter().filter_map(|one| Some((id(one)?, time(one)?))).collect();
    let usage = |one: &ContainerStats| {
        let attributes = one.attributes.clone()?;
        let own = attributes.labels.get(NAME).cloned();
        let memory = one.memory.unwrap_or_default();
        let disk = one.writable_layer.as_ref().and_then(|layer| layer.used_bytes);
        let cpu = times.get(attributes.id.as_str()).and_then(|before| rate(*before, time(one)?));
        Some(Usage {
            name: own.unwrap_or_else(|| attributes.metadata.unwrap_or_default().name),
            id: attributes.id,
            cpu,
            memory: number(memory.working_set_bytes).unwrap_or_default(),
            available: number(memory.available_bytes),
            disk: number(disk).unwrap_or_default(),
        })
    };
    now.iter().filter_map(usage).collect()
}

fn id(one: &ContainerStats) -> Option<&str> {
    one.attributes.as_ref().map(|attributes| attributes.id.as_str())
}

fn number(value: Option<UInt64Value>) -> Option<u64> {
    value.map(|value| value.value)
}

/// When it was looked at, and what CPUs had done by then; both in nanoseconds.
fn time(one: &ContainerStats) -> Option<(i64, u64)> {
    let cpu = one.cpu.as_ref()?;
    Some((cpu.timestamp, number(cpu.usage_core_nano_seconds)?))
}

/// Thousandths of a CPU between two looks.
fn rate(before: (i64, u64), now: (i64, u64)) -> Option<u64> {
    let passed = u64::try_from(now.0.checked_sub(before.0)?).ok().filter(|passed| *passed > 0)?;
    let done = now.1.saturating_sub(before.1);
    u64::try_from(u128::from(done) * 1000 / u128::from(passed)).ok()
}

/// The table of what they use (pure).
pub(super) fn table(usages: &[Usage]) -> String {
    let heads = ["CONTAINER ID", "NAME", "CPU", "MEMORY", "LIMIT", "DISK"];
    output::table(&heads, usages.iter().map(Usage::row))
}

impl Usage {
    /// Thousandths of a CPU, to sort by.
    pub(super) fn cpu(&self) -> u64 {
        self.cpu.unwrap_or_default()
    }

    fn row(&self) -> Vec<String> {
        let percent = |cpu: u64| format!("{}.{}%", cpu / 10, cpu % 10);
        let limit = self.available.map(|available| size(available.saturating_add(self.memory)));
        vec![
            short(&self.id),
            self.name.clone(),
            self.cpu.map_or_else(|| "-".to_owned(), percent),
            size(self.memory),
            limit.unwrap_or_else(|| "-".to_owned()),
            size(self.disk),
        ]
    }

    fn object(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "cpuThousandths": self.cpu,
            "memoryBytes": self.memory,
            "memoryAvailableBytes": self.available,
            "diskBytes": self.disk,
        })
    }
}

#[cfg(test)]
mod tests {
    use protocol::cri::{ContainerAttributes, CpuUsage, MemoryUsage};

    use super::*;

    fn look(timestamp: i64, done: u64) -> ContainerStats {
        let number = |value| Some(UInt64Value { value });
        let labels = [(NAME.to_owned(), "web".to_owned())].into();
        let id = "0123456789abcdef".to_owned();
        ContainerStats {
            attributes: Some(ContainerAttributes { id, labels, ..Default::default() }),
            cpu: Some(CpuUsage {
                timestamp,
                usage_core_nano_seconds: number(done),
                ..CpuUsage::default()
            }),
            memory: Some(MemoryUsage {
                working_set_bytes: number(1 << 20),
                available_bytes: number(3 << 20),
                ..MemoryUsage::default()
            }),
            ..ContainerStats::default()
        }
    }

    #[test]
    fn cpu_is_what_was_done_between_two_looks() {
        let second = 1_000_000_000;
        let rows = |before: &[ContainerStats], now: ContainerStats| usages(before, &[now])[0].row();
        let row = rows(&[look(0, 0)], look(second, 1_250_000_000));
        assert_eq!(row, ["0123456789ab", "web", "125.0%", "1.00MiB", "4.00MiB", "0B"]);
        assert_eq!(rows(&[], look(second, 5))[2], "-");
        assert_eq!(rows(&[look(second, 5)], look(second, 9))[2], "-");
        assert_eq!(rows(&[look(0, 9)], look(second, 5))[2], "0.0%");
    }
}
