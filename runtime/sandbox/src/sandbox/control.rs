//! Pausing, resources and metrics.

use api::events::EventKind;
use api::request::Target;
use api::usage::Usage;
use api::{ContainerId, Error};
use machine::Live;
use serde_json::Value;
use vmm_api::MachineConfig;

use super::{Booted, Owner, Reply, answer};
use crate::container::ProcessState;
use crate::sizing::Limits;
use crate::spec::{self, Document};

/// New resources of a container.
struct Update {
    /// Where to apply them.
    live: Live,
    /// As the guest is told them.
    resources: Value,
    /// The limit of memory that there is then, in bytes.
    limit: Option<u64>,
    /// How much more than before that is, in bytes.
    more: u64,
    /// What all containers have to be allowed before, in bytes.
    together: Option<u64>,
}

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
        let machine = booted.live.machine.clone();
        let work = async move {
            if pause {
                booted.live.guest.pause(&asked).await
            } else {
                booted.live.guest.resume(&asked).await
            }
        };
        self.run_with(&machine, work, move |owner, outcome| {
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

    pub(super) fn update(&mut self, id: ContainerId, resources: Value, reply: Reply<()>) {
        let accepted = self.accept_update(&id, resources);
        let Update { live, resources, limit, more, together } = match accepted {
            Ok(Some(accepted)) => accepted,
            Ok(None) => return answer(reply, Ok(())),
            Err(error) => return answer(reply, Err(error)),
        };
        let (guest, asked) = (live.guest, id.clone());
        let work = async move {
            if let Some(bytes) = together {
                guest.limit_memory(bytes).await?;
            }
            guest.update(&asked, &resources).await
        };
        self.run_with(&live.machine, work, move |owner, outcome| {
            if outcome.is_err() && together.is_some() {
                owner.grown = owner.grown.saturating_sub(more);
            }
            if outcome.is_ok()
                && let Ok(container) = owner.container(&id)
            {
                container.memory_limit = limit.or(container.memory_limit);
            }
            answer(reply, outcome);
        });
    }

    /// Makes `resources` the guest's. None for the pod itself: its limits are its cgroup's on the
    /// host, which its owner sets. Only what its memory may be is taken note of.
    fn accept_update(
        &mut self,
        id: &ContainerId,
        resources: Value,
    ) -> Result<Option<Update>, Error> {
        let container = self.container(id)?;
        let (is_pod, mut current) = (container.is_pod(), container.memory_limit);
        let Booted { live, size, containers_limit, .. } = self.booted()?;
        if is_pod {
            // A pod without a limit may use all that its machine was to have.
            current = current.or(Some(size.memory().bytes()));
        }
        let mut spec = Document::of_resources(resources)?;
        let mut notes = Vec::new();
        spec::translate_resources(&mut spec, &mut notes)?;
        // The rules of devices are those of creation, which have the guest's numbers.
        spec.remove("/linux/resources/devices");
        notes.iter().for_each(|note| log::info!("container {id}: {note}"));
        let limits = Limits::of_resources(&spec)?;
        if let Some(reason) = beyond(limits, current, &size) {
            return Err(Error::State(format!("container {id} stays as it is: {reason}")));
        }
        let limit = limits.memory_bytes;
        if is_pod {
            let container = self.container(id)?;
            container.memory_limit = limit.or(container.memory_limit);
            return Ok(None);
        }
        let resources = spec.json("/linux/resources").clone();
        let more = limit.zip(current).map_or(0, |(limit, current)| limit.saturating_sub(current));
        let together = (containers_limit != 0 && more > 0).then(|| {
            self.grown += more;
            // Beyond the machine there is nothing.
            (containers_limit + self.grown).min(size.memory().bytes())
        });
        Ok(Some(Update { live, resources, limit, more, together }))
    }

    pub(super) fn pod_stats(&self, reply: Reply<Usage>) {
        let booted = match self.booted() {
            Ok(booted) => booted,
            Err(error) => return answer(reply, Err(error)),
        };
        let guest = booted.live.guest;
        let work = async move { guest.pod_stats().await };
        self.run_with(&booted.live.machine, work, |_, outcome| answer(reply, outcome));
    }

    pub(super) fn stats(&mut self, id: ContainerId, reply: Reply<Usage>) {
        let container = match self.container(&id) {
            Ok(container) => container,
            Err(error) => return answer(reply, Err(error)),
        };
        if container.is_pod() {
            // What runs in the pod is told of its containers.
            return answer(reply, Ok(Usage::default()));
        }
        let target = Target { container: id.clone(), exec: None };
        let stopped = container.init.may_signal(&target).is_err();
        let last = container.last_stats.clone();
        match (stopped, last, self.booted()) {
            // CRI asks after the end as well: for the reason of a code 137.
            (true, last, _) => answer(reply, Ok(last.unwrap_or_default())),
            (false, _, Err(error)) => answer(reply, Err(error)),
            (false, _, Ok(booted)) => {
                let guest = booted.live.guest;
                let work = async move { guest.stats(&id).await };
                self.run_with(&booted.live.machine, work, |_, outcome| answer(reply, outcome));
            }
        }
    }
}

/// Why limits can't be what they shall become in a machine whose size does not change, if they
/// can't: one would be larger than the machine, or give back memory that a machine keeps. `current`
/// is the limit of memory so far, in bytes.
fn beyond(limits: Limits, current: Option<u64>, machine: &MachineConfig) -> Option<String> {
    const WAY_OUT: &str = "make the pod anew with these limits";
    let memory = machine.memory();
    if let Some(bytes) = limits.memory_bytes.filter(|&bytes| bytes > memory.bytes()) {
        let (limit, memory) = (bytes >> 20, memory.get());
        return Some(format!(
            "a memory limit of {limit} MiB is more than the pod's machine has, which stays at \
             {memory} MiB; {WAY_OUT}"
        ));
    }
    if let Some((bytes, current)) = limits.memory_bytes.zip(current).filter(|(new, old)| new < old)
    {
        let (limit, current) = (bytes >> 20, current >> 20);
        return Some(format!(
            "a memory limit of {limit} MiB is less than the {current} MiB that it has, and a machine \
             gives no memory back to its host; {WAY_OUT}"
        ));
    }
    let vcpus = machine.vcpus().get();
    let period = limits.cpu_period_us.unwrap_or(100_000);
    let most = period.saturating_mul(vcpus.into());
    let quota = limits.cpu_quota_us.filter(|&quota| quota > most)?;
    let limit = quota.div_ceil(period);
    Some(format!(
        "a limit of {limit} CPUs is more than the pod's machine has, which stays at {vcpus}; \
         {WAY_OUT}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
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
            let asked = json!({"memory": {"limit": mib << 20}, "cpu": cpu});
            let limits = Limits::of_resources(&Document::of_resources(asked).unwrap()).unwrap();
            beyond(limits, Some(64 << 20), &machine)
        };
        assert_eq!(update(256, 100_000), None);
        assert_eq!(update(64, -1), None);
        let named = update(1024, -1).unwrap();
        assert!(named.contains("1024 MiB") && named.contains("256 MiB"), "{named}");
        let named = update(64, 150_000).unwrap();
        assert!(named.contains("3 CPUs") && named.contains("stays at 2"), "{named}");
        let named = update(32, -1).unwrap();
        assert!(named.contains("32 MiB") && named.contains("64 MiB"), "{named}");
    }
}
