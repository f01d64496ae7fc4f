//! Creating a container.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::sync::watch;

use super::{Booted, Owner, Phase, Reply, Slot, answer, boot};
use crate::container::{Container, CreateRequest, Process, Target};
use crate::events::EventKind;
use crate::stdio::{self, Streams};
use crate::storage::{self, Plan, Rootfs};
use crate::store::StateDir;
use crate::{ContainerId, Error, spec};

/// Everything that making one container needs.
struct Work {
    request: CreateRequest,
    host_spec: Value,
    plan: Plan,
    state: StateDir,
    owner: stdio::Owner,
}

struct Made {
    booted: Booted,
    rootfs: Rootfs,
    streams: Streams,
}

impl Owner {
    pub(super) fn create(&mut self, request: CreateRequest, reply: Reply<u32>) {
        let id = request.id.clone();
        match self.begin(request) {
            Err(error) => answer(reply, Err(error)),
            Ok((work, boot)) => {
                self.containers.insert(id, Slot::Reserved);
                let request = work.request.clone();
                let work = async move {
                    let booted = boot::booted(boot).await?;
                    make(work, booted).await
                };
                self.run(work, move |owner, outcome| owner.created(request, outcome, reply));
            }
        }
    }

    fn begin(&mut self, request: CreateRequest) -> Result<(Work, Boot), Error> {
        let id = request.id.as_str();
        if self.containers.contains_key(&request.id) {
            return Err(Error::Exists { what: "container", id: id.to_owned() });
        }
        if self.closing {
            return Err(Error::State("the sandbox is shutting down".into()));
        }
        let host_spec = read_spec(&request.bundle)?;
        let plan = Plan::new(&request.rootfs, &root_of(&host_spec, &request.bundle))?;
        let boot = self.boot(&host_spec)?;
        self.careful |= plan.is_written_by_guest();
        let namespace = self.identity.namespace.clone();
        let owner = stdio::Owner { namespace, container: request.id.clone() };
        let state = self.state.clone();
        Ok((Work { request, host_spec, plan, state, owner }, boot))
    }

    fn created(&mut self, request: CreateRequest, outcome: Result<Made, Error>, reply: Reply<u32>) {
        let id = request.id.clone();
        let outcome = match (&self.phase, &outcome) {
            // Whatever failed then failed because of this.
            (Phase::Ended { reason }, _) | (_, Err(Error::MachineEnded(reason))) => {
                Err(Error::Failed(format!("the machine ended: {reason}")))
            }
            _ => outcome,
        };
        let made = match outcome {
            Ok(made) => made,
            Err(error) => {
                self.containers.remove(&id);
                if let Err(left) = self.state.destroy_container(&id) {
                    log::warn!("cleaning up after container {id}: {left}");
                }
                log::error!("creating container {id}: {error}");
                answer(reply, Err(error));
                return self.close_if_done();
            }
        };
        let pid = made.booted.machine.pid();
        let container = Container {
            bundle: request.bundle.to_string_lossy().into_owned(),
            pid,
            init: Process::new(request.stdio.clone(), made.streams),
            execs: BTreeMap::new(),
            paused: false,
            deleting: false,
            rootfs: Some(made.rootfs),
            last_stats: None,
            oom_kills: 0,
            init_exit: None,
        };
        let bundle = container.bundle.clone();
        self.containers.insert(id.clone(), Slot::Present(Box::new(container)));
        let CreateRequest { rootfs, stdio, .. } = request;
        self.publish(&id, EventKind::Created { bundle, rootfs, stdio, pid });
        self.watch_oom(&id, &made.booted.guest);
        self.watch_exit(Target { container: id, exec: None }, &made.booted.guest);
        answer(reply, Ok(pid));
    }
}

type Boot = watch::Receiver<Option<Result<Booted, Error>>>;

/// Makes the container in the guest; undoes everything on failure.
async fn make(work: Work, booted: Booted) -> Result<Made, Error> {
    let Work { request, host_spec, plan, state, owner } = work;
    let id = request.id;
    let mut rootfs = None;
    let streams = async {
        let prepared = Rootfs::prepare(plan, &id, &state, &booted).await?;
        let guest_path = rootfs.insert(prepared).guest_path.clone();
        let guest_spec = spec::translate(host_spec, &id, &guest_path)?;
        for note in &guest_spec.notes {
            log::info!("container {id}: {note}");
        }
        storage::bind_all(&guest_spec.binds, &id, &state)?;
        let (streams, ids) = Streams::connect(&request.stdio, &owner, &booted.guest).await?;
        booted.guest.create(&id, &guest_spec.spec, ids).await?;
        Ok(streams)
    }
    .await;
    match (streams, rootfs) {
        (Ok(streams), Some(rootfs)) => Ok(Made { booted, rootfs, streams }),
        (Err(error), Some(rootfs)) => {
            if let Err(left) = rootfs.undo(&booted).await {
                log::warn!("cleaning up after container {id}: {left}");
            }
            Err(error)
        }
        (Err(error), None) => Err(error),
        (Ok(_), None) => Err(Error::Failed(format!("container {id} has no root filesystem"))),
    }
}

fn read_spec(bundle: &Path) -> Result<Value, Error> {
    let path = bundle.join("config.json");
    let text = std::fs::read(&path)
        .map_err(|error| Error::Invalid(format!("reading {}: {error}", path.display())))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::Invalid(format!("parsing {}: {error}", path.display())))
}

/// The root directory that the configuration names, by default the bundle's `rootfs`.
fn root_of(spec: &Value, bundle: &Path) -> PathBuf {
    let path = spec.pointer("/root/path").and_then(Value::as_str).unwrap_or("rootfs");
    bundle.join(path)
}

impl Owner {
    /// Reports want of memory while the container runs.
    fn watch_oom(&self, id: &ContainerId, guest: &crate::guest::Guest) {
        let (id, guest, steps) = (id.clone(), guest.clone(), self.steps.clone());
        let watch = async move {
            let mut seen = 0;
            // A count that is not news although it was waited for: the guest breaks its word.
            while let Some(count) = guest.wait_oom(&id, seen).await.ok().flatten()
                && count > seen
            {
                seen = count;
                let id = id.clone();
                steps.send(move |owner| owner.oom_killed(&id, count));
            }
        };
        tokio::spawn(watch);
    }

    /// Reports that `count` processes in all were killed for want of memory, if that is news.
    pub(super) fn oom_killed(&mut self, id: &ContainerId, count: u64) {
        let Ok(container) = self.container(id) else { return };
        if count > container.oom_kills {
            container.oom_kills = count;
            self.publish(id, EventKind::OutOfMemory);
        }
    }
}
