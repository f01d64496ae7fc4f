//! A sandbox: one machine and the containers in it. One task owns all state. Callers and background
//! work send it steps, which it carries out one at a time. So reasoning about concurrency is
//! reasoning about this one loop.
//!
//! ```text
//!  machine:  New ──first create──► Booting ──► Running ──► Ending ──► Ended
//!             ▲───────failed, all undone──────┘      └────────crash────────▲
//! ```
//!
//! A step never waits. Work that takes time runs beside the loop and ends in a step that commits
//! its outcome: `accept → work → commit`. Each verb has a file of its own. State, pids and waiting
//! are answered from memory, whatever the guest does.

mod boot;
mod booted;
mod control;
mod create;
mod delete;
mod exec;
mod exit;
mod heartbeat;
mod last_word;
mod output;
mod pod;
mod power_off;
mod signal;
mod steps;

use std::collections::BTreeMap;
use std::path::PathBuf;

use api::events::{Event, EventKind, Exit};
use api::request::{CreateRequest, ExecRequest, Target};
use api::usage::Usage;
use api::{ContainerId, Error, ExecId, Namespace, SandboxId};
use host::cgroup::Cgroup;
use host::process_id::ProcessId;
use host::store::StateDir;
use tokio::sync::{mpsc, oneshot, watch};

use crate::container::{Container, ProcessView};
use booted::{Booted, Outcome, booted};
pub use output::Listed;
use steps::{Step, Steps};

/// Where a caller waits for an answer.
type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Where the machine is in its life; each state holds what exists in it.
#[derive(Debug)]
enum Phase {
    New,
    Booting {
        boot: Outcome,
        /// Ends the boot when it is dropped.
        _wanted: oneshot::Sender<()>,
    },
    Running(Booted),
    /// The pod was killed; the guest flushes what it has to.
    Ending {
        over: watch::Receiver<bool>,
    },
    Ended {
        reason: String,
    },
}

#[derive(Debug)]
enum Slot {
    /// Being made: nobody else may take the name, nobody can use it yet.
    Reserved,
    Present(Box<Container>),
}

/// What becomes of a sandbox that still has containers when its end is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// It goes on.
    IfEmpty,
    /// It ends with its last container.
    WhenEmpty,
    /// It ends at once, with all its processes.
    Now,
}

/// Who a sandbox is and what it reports to.
#[derive(Debug)]
pub struct Identity {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub id: SandboxId,
    /// Socket file to remove before the sandbox says that it is over.
    pub socket: Option<PathBuf>,
}

/// All state of a sandbox.
#[derive(Debug)]
pub(crate) struct Owner {
    identity: Identity,
    state: StateDir,
    phase: Phase,
    containers: BTreeMap<ContainerId, Slot>,
    events: mpsc::Sender<Event>,
    steps: Steps,
    /// The pod's cgroup on the host, once the machine was started in it.
    cgroup: Option<Cgroup>,
    /// What all containers see, by destination and place on the host.
    files: Vec<(&'static str, PathBuf)>,
    /// What the machine is worth to the host's OOM killer, if a container has said so.
    score: Option<i32>,
    /// Why the machine is being ended, where that is not its own doing.
    blame: Option<String>,
    /// Takes a process id for a container.
    take_id: fn() -> std::io::Result<ProcessId>,
    /// Memory in bytes that containers were allowed beyond what they were made with.
    grown: u64,
    /// The caller wants no more of it once its last container is gone.
    close_when_empty: bool,
    /// The guest may hold what is worth more than a quick end: it did not let go of a container.
    careful: bool,
    closing: bool,
    closed: watch::Sender<bool>,
}

/// Handle of a sandbox; cheap to clone.
#[derive(Debug, Clone)]
pub struct Sandbox {
    steps: Steps,
    closed: watch::Receiver<bool>,
}

impl Sandbox {
    /// Starts the owner task of a sandbox that has no machine yet. What it has on the host is in
    /// `state`. Events go to `events`; those that find it full are lost.
    pub fn start(identity: Identity, state: StateDir, events: mpsc::Sender<Event>) -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Step>();
        let steps = Steps::to(sender);
        let (closed_tx, closed) = watch::channel(false);
        let mut owner = Owner {
            identity,
            state,
            phase: Phase::New,
            containers: BTreeMap::new(),
            events,
            steps: steps.clone(),
            cgroup: None,
            files: Vec::new(),
            score: None,
            blame: None,
            take_id: ProcessId::new,
            grown: 0,
            close_when_empty: false,
            careful: false,
            closing: false,
            closed: closed_tx,
        };
        tokio::spawn(async move {
            while let Some(step) = receiver.recv().await {
                step(&mut owner);
            }
        });
        Self { steps, closed }
    }

    async fn ask<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Owner, Reply<T>) + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.steps.send(move |owner| step(owner, reply));
        answer.await.unwrap_or_else(|_| Err(Error::Failed("the sandbox is gone".into())))
    }

    async fn look<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Owner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.ask(move |owner, reply| answer(reply, step(owner))).await
    }

    /// Makes a container, booting the machine for the first one. Returns its process id.
    ///
    /// # Errors
    /// [`Error::Exists`] for a name in use; otherwise why not, with nothing left behind.
    pub async fn create(&self, request: CreateRequest) -> Result<u32, Error> {
        self.ask(|owner, reply| owner.create(request, reply)).await
    }

    /// Starts a process. Returns its process id.
    ///
    /// # Errors
    /// [`Error::State`] when it was started before; otherwise the guest's reason.
    pub async fn start_process(&self, target: Target) -> Result<u32, Error> {
        self.ask(|owner, reply| owner.start(target, reply)).await
    }

    /// Registers an additional process.
    ///
    /// # Errors
    /// [`Error::Exists`] for a name in use, [`Error::State`] when the container does not run.
    pub async fn exec(&self, request: ExecRequest) -> Result<(), Error> {
        self.look(|owner| owner.exec(request)).await
    }

    /// Sends a signal to a process, or with `all` to every process of its container.
    ///
    /// # Errors
    /// [`Error::Exited`] when it is gone; then waiting for it does not block.
    pub async fn kill(&self, target: Target, signal: u32, all: bool) -> Result<(), Error> {
        self.ask(move |owner, reply| owner.kill(target, signal, all, reply)).await
    }

    /// Waits until a process has ended.
    ///
    /// # Errors
    /// [`Error::NotFound`]; or that it was deleted unstarted.
    pub async fn wait(&self, target: Target) -> Result<Exit, Error> {
        let name = target.name().to_owned();
        let mut exit = self.look(move |owner| Ok(owner.process(&target)?.exit.subscribe())).await?;
        let exit = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        exit.ok_or(Error::NotFound { what: "process", id: name })
    }

    /// How a process is now.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn view(&self, target: Target) -> Result<ProcessView, Error> {
        self.look(move |owner| owner.container(&target.container)?.view(&target)).await
    }

    /// Process ids of a container's init and running execs.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn pids(&self, id: ContainerId) -> Result<Vec<(u32, Option<ExecId>)>, Error> {
        self.look(move |owner| {
            let container = owner.container(&id)?;
            let execs = container.execs.iter().filter(|(_, exec)| exec.is_running());
            let execs = execs.map(|(id, _)| (container.pid, Some(id.clone())));
            Ok(std::iter::once((container.pid, None)).chain(execs).collect())
        })
        .await
    }

    /// Forgets a process that has ended or was never started; for init, the container.
    /// Returns its process id and how it ended.
    ///
    /// # Errors
    /// [`Error::State`] while it runs.
    pub async fn delete(&self, target: Target) -> Result<(u32, Exit), Error> {
        self.ask(|owner, reply| owner.delete(target, reply)).await
    }

    /// Sets the size of a process's terminal, at once or when it starts. Processes without one
    /// are left alone.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the guest's reason.
    pub async fn resize(&self, target: Target, size: (u32, u32)) -> Result<(), Error> {
        self.ask(move |owner, reply| owner.resize(target, size, reply)).await
    }

    /// No more input comes for a process.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn close_input(&self, target: Target) -> Result<(), Error> {
        self.look(move |owner| {
            owner.process(&target)?.streams.close_input();
            Ok(())
        })
        .await
    }

    /// Lets a container stand still (`true`) or go on.
    ///
    /// # Errors
    /// [`Error::State`] when it does not run.
    pub async fn pause(&self, id: ContainerId, pause: bool) -> Result<(), Error> {
        self.ask(move |owner, reply| owner.pause(id, pause, reply)).await
    }

    /// Changes a container's OCI resources.
    ///
    /// # Errors
    /// The guest's reason.
    pub async fn update(&self, id: ContainerId, resources: serde_json::Value) -> Result<(), Error> {
        self.ask(|owner, reply| owner.update(id, resources, reply)).await
    }

    /// What a container uses; after its end as it was then.
    ///
    /// # Errors
    /// The guest's reason.
    pub async fn stats(&self, id: ContainerId) -> Result<Usage, Error> {
        self.ask(|owner, reply| owner.stats(id, reply)).await
    }

    /// What all containers together use.
    ///
    /// # Errors
    /// [`Error::State`] before the machine is up, [`Error::MachineEnded`] after its end, or the
    /// guest's reason.
    pub async fn pod_stats(&self) -> Result<Usage, Error> {
        self.ask(|owner, reply| owner.pod_stats(reply)).await
    }

    /// Ends the sandbox when it has no container; while it has, [`Shutdown`] says what then.
    /// Returns whether it is ending.
    ///
    /// # Errors
    /// That the sandbox is gone.
    pub async fn shutdown(&self, wish: Shutdown) -> Result<bool, Error> {
        self.look(move |owner| Ok(owner.shutdown(wish))).await
    }

    /// Waits until the sandbox is over and nothing of it is left.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error means that the owner is gone, which is closed enough.
        let _over = closed.wait_for(|closed| *closed).await;
    }
}

/// Answers a caller; one that went away does not matter.
fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    let _gone = reply.send(result);
}

impl Owner {
    fn container(&mut self, id: &ContainerId) -> Result<&mut Container, Error> {
        match self.containers.get_mut(id) {
            Some(Slot::Present(container)) => Ok(container),
            _ => Err(Error::no_container(id.as_str())),
        }
    }

    fn process(&mut self, target: &Target) -> Result<&mut crate::container::Process, Error> {
        self.container(&target.container)?.process(target)
    }

    /// The running machine.
    fn booted(&self) -> Result<Booted, Error> {
        match &self.phase {
            Phase::Running(booted) => Ok(booted.clone()),
            Phase::Ended { reason } => Err(Error::MachineEnded(reason.clone())),
            Phase::Ending { .. } => Err(Error::MachineEnded("the sandbox is being stopped".into())),
            Phase::New | Phase::Booting { .. } => Err(Error::State("the machine is not up".into())),
        }
    }

    fn publish(&self, container: &ContainerId, kind: EventKind) {
        if let Some(Slot::Present(present)) = self.containers.get(container)
            && present.is_quiet()
        {
            return;
        }
        let event = Event { container: container.clone(), kind };
        if let Err(error) = self.events.try_send(event) {
            log::warn!("an event is lost: {error}");
        }
    }

    /// Runs `work` beside the loop and `commit` with its outcome in the loop.
    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        commit: impl FnOnce(&mut Owner, T) + Send + 'static,
    ) {
        let steps = self.steps.clone();
        tokio::spawn(async move {
            let outcome = work.await;
            steps.send(move |owner| commit(owner, outcome));
        });
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
