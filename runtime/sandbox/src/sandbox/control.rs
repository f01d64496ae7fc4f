//! Pausing, resources and metrics.

use serde_json::{Value, json};
use vmm_api::MachineConfig;

use super::{Owner, Reply, answer};
use crate::container::ProcessState;
use crate::events::EventKind;
use crate::request::Target;
use crate::sizing::Limits;
use crate::usage::Files;
use crate::{ContainerId, Error, spec};

impl Owner {
    pub(super) fn pause(&mut self, id: ContainerId, pause: bool, reply: Reply<()>) {
        let accepted =
            self.accept_pause(&id, pause).and_then(|needed| Ok((self.booted()?, needed)));
        let booted = match accepted {
            Ok((booted, true)) => booted,
            Ok((_, false)) => return answer(reply, Ok(())),
            Err(error) => return answer(reply, Err(error)),
        };
        let asked = id.clone();
        let work = async move {
            if pause {
                booted.live.guest.pause(&asked).await
            } else {
                booted.live.guest.resume(&asked).await
            }
        };
        self.run(work, move |owner, outcome| {
            if outcome.is_ok() {
                owner.set_paused(&id, pause);
            }
            answer(reply, outcome);
        });
    }

    pub(super) fn set_paused(&mut self, id: &ContainerId, paused: bool) {
        let Ok(container) = self.container(id) else { return };
        container.paused = paused;
        self.publish(id, if paused { EventKind::Paused } else { EventKind::Resumed });
    }

    /// Whether there is anything to do.
    fn accept_pause(&mut self, id: &ContainerId, pause: bool) -> Result<bool, Error> {
        let container = self.container(id)?;
        match container.init.state {
            _ if container.is_pod() => {
                Err(Error::State("the sandbox container can't be paused".into()))
            }
            ProcessState::Running => Ok(container.paused != pause),
            _ => Err(Error::State(format!("container {id:?} does not run", id = id.as_str()))),
        }
    }

    pub(super) fn update(&mut self, id: ContainerId, mut resources: Value, reply: Reply<()>) {
        let accepted = self.container(&id).map(|container| container.is_pod());
        let booted = match accepted.and_then(|pod| Ok((pod, self.booted()?))) {
            // The pod's limits are its cgroup's on the host, which its owner sets.
            Ok((true, _)) => return answer(reply, Ok(())),
            Ok((false, booted)) => booted,
            Err(error) => return answer(reply, Err(error)),
        };
        let Value::Object(map) = &mut resources else {
            return answer(reply, Err(Error::Invalid("resources are not a JSON object".into())));
        };
        let mut notes = Vec::new();
        spec::translate_resources(map, &mut notes);
        notes.iter().for_each(|note| log::info!("container {id}: {note}"));
        let beyond = beyond(&resources, booted.live.machine.shape());
        beyond.iter().for_each(|limit| log::warn!("container {id}: {limit}"));
        let work = async move { booted.live.guest.update(&id, &resources).await };
        self.run(work, |_, outcome| answer(reply, outcome));
    }

    pub(super) fn pod_stats(&self, reply: Reply<Files>) {
        let booted = match self.booted() {
            Ok(booted) => booted,
            Err(error) => return answer(reply, Err(error)),
        };
        let work = async move { booted.live.guest.pod_stats().await };
        self.run(work, |_, outcome| answer(reply, outcome));
    }

    pub(super) fn stats(&mut self, id: ContainerId, reply: Reply<Files>) {
        let container = match self.container(&id) {
            Ok(container) => container,
            Err(error) => return answer(reply, Err(error)),
        };
        if container.is_pod() {
            // What runs in the pod is told of its containers.
            return answer(reply, Ok(Files::default()));
        }
        let target = Target { container: id.clone(), exec: None };
        let stopped = container.init.may_signal(&target).is_err();
        let last = container.last_stats.clone();
        match (stopped, last, self.booted()) {
            // CRI asks after the end as well: for the reason of a code 137.
            (true, last, _) => answer(reply, Ok(last.unwrap_or_default())),
            (false, _, Err(error)) => answer(reply, Err(error)),
            (false, _, Ok(booted)) => {
                let work = async move { booted.live.guest.stats(&id).await };
                self.run(work, |_, outcome| answer(reply, outcome));
            }
        }
    }
}

/// What of new limits has no effect because the machine, whose size does not change, is smaller.
fn beyond(resources: &Value, machine: &MachineConfig) -> Vec<String> {
    let limits = Limits::from_spec(&json!({ "linux": { "resources": resources } }));
    let mut beyond = Vec::new();
    let memory = machine.memory();
    if let Some(bytes) = limits.memory_bytes.filter(|&bytes| bytes > memory.bytes()) {
        let (limit, memory) = (bytes >> 20, memory.get());
        beyond.push(format!("a limit of {limit} MiB in a machine that stays at {memory} MiB"));
    }
    let vcpus = machine.vcpus().get();
    let period = limits.cpu_period_us.unwrap_or(100_000);
    let most = period.saturating_mul(vcpus.into());
    if let Some(quota) = limits.cpu_quota_us.filter(|&quota| quota > most) {
        let limit = quota.div_ceil(period);
        beyond.push(format!("a limit of {limit} CPUs in a machine that stays at {vcpus}"));
    }
    beyond
}

#[cfg(test)]
mod tests {
    use vmm_api::RawMachineConfig;

    use super::*;

    #[test]
    fn limits_larger_than_the_machine_are_named_with_its_size() {
        let raw = RawMachineConfig {
            vcpus: 2,
            memory_mib: 256,
            extra_cmdline: String::new(),
            early_serial: false,
        };
        let machine = MachineConfig::try_from(raw).unwrap();
        let update = |mib: u64, quota: i64| {
            let cpu = json!({"quota": quota, "period": 50_000});
            beyond(&json!({"memory": {"limit": mib << 20}, "cpu": cpu}), &machine)
        };
        assert!(update(256, 100_000).is_empty());
        assert!(update(64, -1).is_empty());
        let named = update(1024, 150_000);
        assert!(named[0].contains("1024 MiB") && named[0].contains("256 MiB"), "{named:?}");
        assert!(named[1].contains("3 CPUs") && named[1].contains("stays at 2"), "{named:?}");
    }
}
