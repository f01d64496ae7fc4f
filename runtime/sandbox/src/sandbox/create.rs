//! Creating a container.

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::events::EventKind;
use api::request::{CreateRequest, Target};
use api::{ContainerId, Error, User};
use host::cgroup;
use host::process_id::ProcessId;
use host::store::StateDir;
use oci_spec::runtime::Root;

use super::delete::{forget_on_host, take_from_guest};
use super::{Booted, Outcome, Owner, Reply, Slot, answer};
use crate::container::{Container, Role};
use crate::hooks::{Hooks, Moment};
use crate::sizing::Limits;
use crate::spec::{Document, namespaces};
use crate::stdio::{self, Streams};
use crate::storage::{Plan, Rootfs, Site};
use crate::{Pod, apparmor, pod, spec, storage};

/// Least time between two reports of want of memory in one container. The attack: a guest that
/// counts up without end, and so fills containerd's events and logs.
const OOM_PACE: Duration = Duration::from_secs(1);

/// Everything that making one container needs.
struct Work {
    request: CreateRequest,
    host_spec: Document,
    plan: Plan,
    state: StateDir,
    owner: stdio::Owner,
    hooks: Option<Hooks>,
    shares_memory: bool,
    memory_limit: Option<u64>,
}

struct Made {
    booted: Booted,
    rootfs: Rootfs,
    hooks: Option<Hooks>,
    streams: Streams,
    memory_limit: Option<u64>,
    user: Option<User>,
    notes: Vec<String>,
}

impl Owner {
    pub(super) fn create(&mut self, request: CreateRequest, reply: Reply<u32>) {
        let read = self.accept_create(&request.id).and_then(|()| read_spec(&request.bundle));
        let pod = |spec: Document| Ok((Pod::from_spec(&spec)?, pod::is_sandbox(&spec)?, spec));
        let (pod, is_sandbox, spec) = match read.and_then(pod) {
            Ok(read) => read,
            Err(error) => return answer(reply, Err(error)),
        };
        if is_sandbox {
            let role = Role::Pod { pid_namespace: pod.pid_namespace, quiet: false };
            return self.create_pod(request, role, pod, reply);
        }
        let id = request.id.clone();
        let score = pod.oom_score_adj;
        match self.begin(request, spec, pod) {
            Err(error) => answer(reply, Err(error)),
            Ok((work, boot)) => {
                self.containers.insert(id, Slot::Reserved);
                let request = work.request.clone();
                self.run_booted(
                    boot,
                    |booted| make(work, booted),
                    move |owner, outcome| {
                        owner.protect(score);
                        owner.created(request, outcome, reply);
                    },
                );
            }
        }
    }

    /// Whether a container of this name may be made now.
    pub(super) fn accept_create(&self, id: &ContainerId) -> Result<(), Error> {
        if self.containers.contains_key(id) {
            return Err(Error::Exists { what: "container", id: id.to_string() });
        }
        if self.closing {
            return Err(Error::State("the sandbox is shutting down".into()));
        }
        Ok(())
    }

    fn begin(
        &mut self,
        request: CreateRequest,
        mut host_spec: Document,
        pod: Pod,
    ) -> Result<(Work, Outcome), Error> {
        let plan = Plan::new(&request.rootfs, &root_of(&host_spec, &request.bundle)?)?;
        let hooks = Hooks::from_spec(&host_spec, request.id.as_str(), &request.bundle)?;
        let shares_memory = storage::is_shared(&host_spec)?;
        let memory_limit = Limits::of_resources(&host_spec)?.memory_bytes;
        for note in namespaces::translate(&mut host_spec, |pid| self.holder(pid))? {
            log::info!("container {}: {note}", request.id);
        }
        pod::add_files(&mut host_spec, &self.files)?;
        let boot = self.boot(pod)?;
        let owner = self.stdio_owner(&request.id);
        let state = self.state.clone();
        let work =
            Work { request, host_spec, plan, state, owner, hooks, shares_memory, memory_limit };
        Ok((work, boot))
    }

    fn created(&mut self, request: CreateRequest, outcome: Result<Made, Error>, reply: Reply<u32>) {
        let id = request.id.clone();
        let hooks = outcome.as_ref().ok().and_then(|made| made.hooks.clone());
        let made = match outcome.and_then(|made| self.still_up(made)) {
            Ok(made) if reply.is_closed() => {
                log::warn!("whoever asked for container {id} has gone: it is removed");
                return self.unmake(id, made, None);
            }
            Ok(made) => made,
            Err(error) => return self.not_created(id, error, hooks, reply),
        };
        let (pid, mark) = match self.mark(made.booted.live.machine.pid()) {
            Ok(marked) => marked,
            Err(error) => {
                log::error!("creating container {id}: {error}");
                return self.unmake(id, made, Some((reply, error)));
            }
        };
        let mut container = Container::new(Role::Guest, &request, pid, made.streams);
        container.mark = mark;
        container.rootfs = Some(made.rootfs);
        container.hooks = made.hooks;
        container.memory_limit = made.memory_limit;
        container.user = made.user;
        for note in made.notes {
            container.is_news(&note);
        }
        self.present(request, container, reply);
        self.watch_oom(&id, &made.booted.live.guest);
        self.watch_exit(Target { container: id, exec: None }, &made.booted.live.guest);
    }

    /// Forgets a container that could not be made; `hooks` have yet to be told of its end.
    fn not_created(
        &mut self,
        id: ContainerId,
        error: Error,
        hooks: Option<Hooks>,
        reply: Reply<u32>,
    ) {
        let share = self.booted().ok().map(|booted| booted.live.share);
        let (state, left) = (self.state.clone(), id.clone());
        let work = async move {
            tell_the_end(hooks).await;
            forget_on_host(state, left, share).await
        };
        self.run(work, move |owner, undone| {
            owner.containers.remove(&id);
            undone.unwrap_or_else(|left| log::warn!("{left}"));
            log::error!("creating container {id}: {error}");
            answer(reply, Err(error));
            owner.close_if_done();
        });
    }

    /// What was made, or why it is of no use any more.
    pub(super) fn still_up<T>(&self, made: T) -> Result<T, Error> {
        match self.booted() {
            Ok(_) => Ok(made),
            Err(Error::MachineEnded(reason)) => Err(Error::machine_over(&reason)),
            Err(error) => Err(error),
        }
    }

    /// The process id that callers are told of a new container: the machine's for the first, one
    /// of its own for any other.
    fn mark(&self, machine: u32) -> Result<(u32, Option<ProcessId>), Error> {
        if self.holder(machine).is_none() {
            return Ok((machine, None));
        }
        let mark =
            (self.take_id)().map_err(|error| Error::failed("taking a process id", &error))?;
        Ok((mark.id(), Some(mark)))
    }

    /// Adds a container that was made, and tells of it.
    pub(super) fn present(
        &mut self,
        request: CreateRequest,
        container: Container,
        reply: Reply<u32>,
    ) {
        let (bundle, pid) = (container.bundle.clone(), container.pid);
        let CreateRequest { id, rootfs, stdio, .. } = request;
        self.containers.insert(id.clone(), Slot::Present(Box::new(container)));
        self.publish(&id, EventKind::Created { bundle, rootfs, stdio, pid });
        answer(reply, Ok(pid));
    }

    /// Removes a container that was made for nothing, before whoever asked for it is told why.
    /// Nobody to be told: they have gone, and will not know that it exists.
    fn unmake(&mut self, id: ContainerId, made: Made, told: Option<(Reply<u32>, Error)>) {
        let (state, removed) = (self.state.clone(), id.clone());
        let work = async move {
            let Made { booted, rootfs, hooks, streams, .. } = made;
            drop(streams);
            let let_go = take_from_guest(&removed, Some(rootfs), &booted.live).await;
            tell_the_end(hooks).await;
            (let_go, forget_on_host(state, removed, Some(booted.live.share)).await)
        };
        self.run(work, move |owner, (let_go, undone)| {
            owner.careful |= let_go.is_err();
            for left in [let_go.err(), undone.err()].into_iter().flatten() {
                log::warn!("removing container {id}: {left}");
            }
            owner.containers.remove(&id);
            if let Some((reply, error)) = told {
                answer(reply, Err(error));
            }
            owner.close_if_done();
        });
    }

    /// Lets the host's OOM killer see the machine as its most precious container.
    fn protect(&mut self, score: Option<i32>) {
        let Some(score) = score else { return };
        if self.score.is_some_and(|lowest| lowest <= score) {
            return;
        }
        self.score = Some(score);
        if let Ok(booted) = self.booted()
            && let Err(error) = cgroup::set_oom_score(booted.live.machine.pid(), score)
        {
            log::warn!("{error}");
        }
    }
}

/// Makes the container in the guest; undoes everything on failure.
async fn make(work: Work, booted: Booted) -> Result<Made, Error> {
    let Work { request, host_spec, plan, state, owner, hooks, shares_memory, memory_limit } = work;
    let id = request.id;
    let (mut rootfs, mut hooked, mut asked) = (None, false, false);
    let made = async {
        state.step("create");
        let site = Site {
            container: &id,
            state: &state,
            live: &booted.live,
            volumes: &booted.volumes,
            shares_memory,
        };
        let rootfs = rootfs.insert(Rootfs::prepare(plan, site).await?);
        let mut guest_spec = spec::translate(host_spec, &id, &rootfs.guest_path)?;
        rootfs.show(&mut guest_spec, &request.bundle, site).await?;
        state.step("rootfs");
        guest_spec.notes.extend(apparmor::carry(&mut guest_spec.spec)?);
        for note in &guest_spec.notes {
            log::info!("container {id}: {note}");
        }
        if let Some(hooks) = &hooks {
            hooked = true;
            hooks.run(Moment::Create, booted.live.machine.pid()).await?;
        }
        let (streams, ids) = Streams::connect(&request.stdio, &owner, &booted.live.guest).await?;
        let limit = spec::time_to_create(&guest_spec.spec)?;
        asked = true;
        let user = booted.live.guest.create(&id, guest_spec.spec.json(""), ids, limit).await?;
        state.step("created");
        Ok((streams, user, guest_spec.notes))
    }
    .await;
    match (made, rootfs) {
        (Ok((streams, user, notes)), Some(rootfs)) => {
            Ok(Made { booted, rootfs, hooks, streams, memory_limit, user, notes })
        }
        (Err(error), rootfs) => {
            let left = match rootfs {
                // What it could not make in time it may still be making.
                rootfs if asked => take_from_guest(&id, rootfs, &booted.live).await,
                Some(rootfs) => rootfs.undo(&booted.live).await,
                None => Ok(()),
            };
            if let Err(left) = left {
                log::warn!("cleaning up after container {id}: {left}");
            }
            tell_the_end(hooks.filter(|_| hooked)).await;
            Err(error)
        }
        (Ok(_), None) => Err(Error::Failed(format!("container {id} has no root filesystem"))),
    }
}

/// Runs the poststop hooks of a container that came to nothing after its first hooks were begun
/// (runtime.md, "Lifecycle": a hook that fails leads to the container's deletion).
async fn tell_the_end(hooks: Option<Hooks>) {
    let Some(hooks) = hooks else { return };
    // The state of a stopped container has no process id.
    if let Err(error) = hooks.run(Moment::Stopped, 0).await {
        log::warn!("{error}");
    }
}

fn read_spec(bundle: &Path) -> Result<Document, Error> {
    let path = bundle.join("config.json");
    let text = std::fs::read(&path)
        .map_err(|error| Error::Invalid(format!("reading {}: {error}", path.display())))?;
    let spec = Document::parse(&text, path.display())?;
    namespaces::check_users(&spec)?;
    Ok(spec)
}

/// The root directory that the configuration names, by default the bundle's `rootfs`.
fn root_of(spec: &Document, bundle: &Path) -> Result<PathBuf, Error> {
    let root = spec.get::<Root>("/root")?;
    Ok(bundle.join(root.map_or("rootfs".into(), |root| root.path().clone())))
}

impl Owner {
    /// Reports want of memory while the container runs.
    fn watch_oom(&self, id: &ContainerId, guest: &machine::guest::Guest) {
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
                // What happens meanwhile is told with the next.
                tokio::time::sleep(OOM_PACE).await;
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
