//! Pausing, resources and metrics.

use serde_json::Value;

use super::{Owner, Reply, answer};
use crate::container::{ProcessState, Target};
use crate::events::EventKind;
use crate::stats::Files;
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
            if pause { booted.guest.pause(&asked).await } else { booted.guest.resume(&asked).await }
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
        let work = async move { booted.guest.update(&id, &resources).await };
        self.run(work, |_, outcome| answer(reply, outcome));
    }

    pub(super) fn pod_stats(&self, reply: Reply<Files>) {
        let booted = match self.booted() {
            Ok(booted) => booted,
            Err(error) => return answer(reply, Err(error)),
        };
        let work = async move { booted.guest.pod_stats().await };
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
                let work = async move { booted.guest.stats(&id).await };
                self.run(work, |_, outcome| answer(reply, outcome));
            }
        }
    }
}
