//! Containers and their processes: what exists in each state, and which requests a state
//! accepts. Only the sandbox's owner task changes them.
//!
//! ```text
//!  process:  Created ──start──► Starting ──► Running ──► Stopped
//!               └───────────killed, start failed───────────▲
//! ```

use std::collections::BTreeMap;
use std::time::SystemTime;

use api::events::{Exit, SIGKILL};
use api::request::{CreateRequest, StdioPaths, Target};
use api::usage::Usage;
use api::{Error, ExecId, User};
use host::process_id::ProcessId;
use tokio::sync::watch;

use crate::hooks::Hooks;
use crate::spec::Document;
use crate::stdio::Streams;
use crate::storage::Rootfs;

/// State of a process as callers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not started.
    Created,
    /// Runs.
    Running,
    /// Stands still with its container.
    Paused,
    /// Has ended.
    Stopped(Exit),
}

/// A process as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessView {
    /// Bundle of its container.
    pub bundle: String,
    /// Process id on the host.
    pub pid: u32,
    /// When its container was made.
    pub created: SystemTime,
    /// State.
    pub status: Status,
    /// Where its streams go.
    pub stdio: StdioPaths,
}

/// Where a process is in its life.
#[derive(Debug)]
pub(crate) enum ProcessState {
    /// Ready to be started. An exec is told to the guest only then.
    Created,
    /// The guest was asked to start it; it may even have exited before the answer came.
    Starting {
        /// How it ended meanwhile.
        exited: Option<Exit>,
        /// What an exec, of which the guest may not know yet, is to be sent once it runs.
        signal: Option<u32>,
    },
    /// It runs.
    Running,
    /// It has ended.
    Stopped(Exit),
}

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) state: ProcessState,
    pub(crate) stdio: StdioPaths,
    /// OCI process of an exec that the guest does not know yet.
    pub(crate) oci: Option<Document>,
    /// Dropped when the process is deleted, which ends all copying.
    pub(crate) streams: Streams,
    /// Whoever asked for it has gone: nobody will delete it.
    pub(crate) unwanted: bool,
    /// Terminal size (columns, rows) that was asked for before start.
    pub(crate) size: Option<(u32, u32)>,
    /// How it ended in the guest, known before the last of its output is delivered.
    pub(crate) ended: watch::Sender<Option<Exit>>,
    /// How it ended, for callers.
    pub(crate) exit: watch::Sender<Option<Exit>>,
}

impl Process {
    pub(crate) fn new(stdio: StdioPaths, streams: Streams) -> Self {
        let (ended, exit) = (watch::Sender::new(None), watch::Sender::new(None));
        Self {
            state: ProcessState::Created,
            stdio,
            oci: None,
            streams,
            unwanted: false,
            size: None,
            ended,
            exit,
        }
    }

    /// Whether it may be started now.
    pub(crate) fn may_start(&self, name: &str) -> Result<(), Error> {
        match self.state {
            ProcessState::Created => Ok(()),
            ProcessState::Stopped(_) => {
                Err(Error::State(format!("process {name:?} is stopped and can't be started")))
            }
            _ => Err(Error::State(format!("process {name:?} has already been started"))),
        }
    }

    /// Whether it may be forgotten now, and how it ended.
    pub(crate) fn may_delete(&self, name: &str) -> Result<Option<Exit>, Error> {
        match self.state {
            ProcessState::Created => Ok(None),
            ProcessState::Stopped(exit) => Ok(Some(exit)),
            _ => Err(Error::State(format!("process {name:?} still runs"))),
        }
    }

    /// Whether a signal can reach it now. An exec that has not started has no process yet.
    pub(crate) fn may_signal(&self, target: &Target) -> Result<(), Error> {
        match self.state {
            ProcessState::Stopped(_) => Err(Error::Exited(target.name().to_owned())),
            ProcessState::Created if target.exec.is_some() => {
                Err(Error::State(format!("process {:?} has not been started", target.name())))
            }
            _ => Ok(()),
        }
    }

    /// Records the end and tells all who wait for it. Returns how it ended: as the guest told, or
    /// by `otherwise` where it did not.
    pub(crate) fn stop(&mut self, otherwise: Exit) -> Exit {
        let exit = self.ended.borrow().unwrap_or(otherwise);
        self.state = ProcessState::Stopped(exit);
        self.streams.stop();
        self.ended.send_replace(Some(exit));
        self.exit.send_replace(Some(exit));
        exit
    }

    /// Keeps a signal for an exec that is being started; whether it did. Of several the last one
    /// counts, and SIGKILL before all others.
    pub(crate) fn keep_signal(&mut self, signal: u32) -> bool {
        let ProcessState::Starting { signal: kept, .. } = &mut self.state else { return false };
        if *kept != Some(SIGKILL) {
            *kept = Some(signal);
        }
        true
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, ProcessState::Running | ProcessState::Starting { .. })
    }

    fn status(&self, paused: bool) -> Status {
        match self.state {
            ProcessState::Created | ProcessState::Starting { .. } => Status::Created,
            ProcessState::Running if paused => Status::Paused,
            ProcessState::Running => Status::Running,
            ProcessState::Stopped(exit) => Status::Stopped(exit),
        }
    }
}

/// What a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A container of the guest.
    Guest,
    /// The pod itself, which callers take for a container: it runs as long as the machine, and
    /// nothing of it is in the guest.
    Pod {
        /// Whether containers that share process ids share those of the pod, not of the guest.
        pid_namespace: bool,
        /// It belongs to the Sandbox service: no event tells of it.
        quiet: bool,
    },
}

/// Most notes of a container that are remembered; whoever makes execs decides on their texts.
const NOTES: usize = 16;

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) role: Role,
    pub(crate) created: SystemTime,
    pub(crate) bundle: String,
    /// Process id that callers are told: the machine's, or that of the mark.
    pub(crate) pid: u32,
    /// What the process id is of, unless it is the machine's.
    pub(crate) mark: Option<ProcessId>,
    pub(crate) init: Process,
    pub(crate) execs: BTreeMap<ExecId, Process>,
    pub(crate) paused: bool,
    pub(crate) deleting: bool,
    pub(crate) rootfs: Option<Rootfs>,
    /// What the log has been told of it, [`NOTES`] at most.
    pub(crate) notes: Vec<String>,
    /// Limit of its memory in bytes.
    pub(crate) memory_limit: Option<u64>,
    /// Who its first process is, as the guest says.
    pub(crate) user: Option<User>,
    /// What the host runs at its start and end.
    pub(crate) hooks: Option<Hooks>,
    /// Metrics as they were at exit.
    pub(crate) last_stats: Option<Usage>,
    /// OOM kills that were reported.
    pub(crate) oom_kills: u64,
    /// How init ended, while its execs' ends are still to be reported.
    pub(crate) init_exit: Option<Exit>,
}

impl Container {
    /// A container that has not been started.
    pub(crate) fn new(role: Role, request: &CreateRequest, pid: u32, streams: Streams) -> Self {
        Self {
            role,
            created: SystemTime::now(),
            bundle: request.bundle.to_string_lossy().into_owned(),
            pid,
            mark: None,
            init: Process::new(request.stdio.clone(), streams),
            execs: BTreeMap::new(),
            paused: false,
            deleting: false,
            rootfs: None,
            notes: Vec::new(),
            memory_limit: None,
            user: None,
            hooks: None,
            last_stats: None,
            oom_kills: 0,
            init_exit: None,
        }
    }

    /// Whether the log has not been told this of it yet. An exec says much of what its container said,
    /// and some are made every few seconds.
    pub(crate) fn is_news(&mut self, note: &str) -> bool {
        let news = self.notes.iter().all(|told| told != note);
        if news && self.notes.len() < NOTES {
            self.notes.push(note.to_owned());
        }
        news
    }

    /// Whether it is the pod itself.
    pub(crate) fn is_pod(&self) -> bool {
        matches!(self.role, Role::Pod { .. })
    }

    /// Whether events tell of it.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.role, Role::Pod { quiet: true, .. })
    }

    /// The named process.
    pub(crate) fn process(&mut self, target: &Target) -> Result<&mut Process, Error> {
        match &target.exec {
            None => Ok(&mut self.init),
            Some(exec) => self.execs.get_mut(exec).ok_or_else(|| Error::no_exec(exec.as_str())),
        }
    }

    /// Whether an additional process may be registered or started.
    pub(crate) fn may_exec(&self) -> Result<(), Error> {
        match self.init.state {
            _ if self.is_pod() => {
                Err(Error::State("the sandbox container has no processes of its own".to_owned()))
            }
            // It would start when the container goes on, long after its caller has given up.
            ProcessState::Running if self.paused => {
                Err(Error::State("the container is paused".to_owned()))
            }
            ProcessState::Running if !self.deleting && self.init_exit.is_none() => Ok(()),
            ProcessState::Created => {
                Err(Error::State("the container has not been started".to_owned()))
            }
            _ => Err(Error::State("the container is stopped".to_owned())),
        }
    }

    pub(crate) fn view(&self, target: &Target) -> Result<ProcessView, Error> {
        let process = match &target.exec {
            None => Some(&self.init),
            Some(exec) => self.execs.get(exec),
        };
        let process = process.ok_or_else(|| Error::no_exec(target.name()))?;
        Ok(self.view_of(process))
    }

    /// One of its processes as callers see it.
    pub(crate) fn view_of(&self, process: &Process) -> ProcessView {
        ProcessView {
            bundle: self.bundle.clone(),
            pid: self.pid,
            created: self.created,
            status: process.status(self.paused),
            stdio: process.stdio.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use api::ContainerId;

    use super::*;

    fn process(state: ProcessState) -> Process {
        let mut process = Process::new(StdioPaths::default(), Streams::none());
        process.state = state;
        process
    }

    fn exit() -> Exit {
        Exit { status: 3, at: SystemTime::UNIX_EPOCH }
    }

    fn exec() -> Target {
        let container = ContainerId::new("c").unwrap();
        Target { container, exec: Some(ExecId::new("e").unwrap()) }
    }

    fn starting() -> ProcessState {
        ProcessState::Starting { exited: None, signal: None }
    }

    #[test]
    fn only_a_created_process_starts_and_only_a_still_one_is_deleted() {
        let (created, running) = (ProcessState::Created, ProcessState::Running);
        assert!(process(created).may_start("p").is_ok());
        assert!(process(starting()).may_start("p").is_err());
        assert!(process(ProcessState::Stopped(exit())).may_start("p").is_err());
        assert!(process(running).may_delete("p").is_err());
        let stopped = process(ProcessState::Stopped(exit())).may_delete("p");
        assert_eq!(stopped, Ok(Some(exit())));
    }

    #[test]
    fn note_is_news_once_and_not_remembered_without_end() {
        let request = CreateRequest {
            id: ContainerId::new("c").unwrap(),
            bundle: "/b".into(),
            rootfs: Vec::new(),
            stdio: StdioPaths::default(),
        };
        let mut container = Container::new(Role::Guest, &request, 1, Streams::none());
        assert_eq!([container.is_news("a"), container.is_news("a")], [true, false]);
        let texts: Vec<_> = (0..NOTES * 2).map(|number| number.to_string()).collect();
        assert!(texts.iter().all(|text| container.is_news(text)));
        assert_eq!(container.notes.len(), NOTES);
        assert!(!container.is_news("a"));
    }

    #[test]
    fn signal_to_the_dead_and_to_the_unborn_are_told_apart() {
        let dead = process(ProcessState::Stopped(exit())).may_signal(&exec());
        assert!(matches!(dead, Err(Error::Exited(_))));
        let unborn = process(ProcessState::Created).may_signal(&exec());
        assert!(matches!(unborn, Err(Error::State(_))));
        let init = Target { exec: None, ..exec() };
        assert!(process(ProcessState::Created).may_signal(&init).is_ok());
    }

    #[test]
    fn signal_for_an_exec_that_is_being_started_is_kept() {
        let kept = |signals: &[u32]| {
            let mut process = process(starting());
            assert!(signals.iter().all(|signal| process.keep_signal(*signal)));
            let ProcessState::Starting { signal, .. } = process.state else { unreachable!() };
            signal
        };
        assert_eq!([kept(&[]), kept(&[15]), kept(&[9, 15])], [None, Some(15), Some(9)]);
        assert!(!process(ProcessState::Running).keep_signal(15));
    }

    #[test]
    fn end_is_told_to_those_who_wait_and_to_those_who_ask_later() {
        let mut process = process(ProcessState::Running);
        let early = process.exit.subscribe();
        process.stop(exit());
        assert_eq!(*early.borrow(), Some(exit()));
        assert_eq!(*process.exit.subscribe().borrow(), Some(exit()));
    }
}
