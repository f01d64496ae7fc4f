//! Registering additional processes, and starting processes of both kinds.

use std::time::SystemTime;

use super::{Owner, Reply, answer};
use api::Error;
use api::events::{EventKind, Exit, SIGKILL};
use api::request::{ExecRequest, StdioPaths, Target};

use crate::apparmor;
use crate::container::{Process, ProcessState};
use crate::hooks::Moment;
use crate::spec::{self, Document};
use crate::stdio::Streams;

/// Exit status of a process that could not be started, as a shell has it.
const NOT_STARTED: u32 = 127;

impl Owner {
    pub(super) fn exec(&mut self, request: ExecRequest) -> Result<(), Error> {
        let ExecRequest { target, process, stdio } = request;
        let exec = self.accept_exec(&target)?;
        let mut process = Document::new(process, "the process to execute")?;
        let label = spec::translate_exec(&mut process);
        let notes: Vec<_> = label.into_iter().chain(apparmor::check(&mut process)?).collect();
        let mut added = Process::new(stdio, Streams::none());
        added.oci = Some(process);
        let container = self.container(&target.container)?;
        for note in notes.iter().filter(|note| container.is_news(note)) {
            log::info!("exec {exec} of container {}: {note}", target.container);
        }
        container.execs.insert(exec.clone(), added);
        self.publish(&target.container, EventKind::ExecAdded { exec });
        Ok(())
    }

    fn accept_exec(&mut self, target: &Target) -> Result<api::ExecId, Error> {
        let container = self.container(&target.container)?;
        let exec = target.exec.clone().ok_or_else(|| Error::Invalid("exec without id".into()))?;
        if container.execs.contains_key(&exec) {
            return Err(Error::Exists { what: "exec", id: exec.to_string() });
        }
        container.may_exec()?;
        Ok(exec)
    }

    pub(super) fn start(&mut self, target: Target, reply: Reply<u32>) {
        if self.is_pod(&target) {
            let started = self.start_pod(&target);
            return answer(reply, started);
        }
        let accepted = self.accept_start(&target).and_then(|start| Ok((start, self.booted()?)));
        let (start, booted) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return answer(reply, Err(error)),
        };
        let owner = self.stdio_owner(&target.container);
        let (asked, state) = (target.clone(), self.state.clone());
        let container = self.container(&target.container).ok();
        let hooks = container.and_then(|container| container.hooks.clone());
        let hooks = hooks.filter(|_| target.exec.is_none());
        let machine = booted.live.machine.clone();
        let work = async move {
            let mut streams = None;
            if let Some((process, stdio)) = start {
                let (made, ids) = Streams::connect(&stdio, &owner, &booted.live.guest).await?;
                streams = Some(made);
                booted.live.guest.exec(&asked, process.json(""), ids).await?;
            }
            booted.live.guest.start(&asked).await?;
            if asked.exec.is_none() {
                state.step("started");
            }
            if let Some(hooks) = hooks {
                hooks.run(Moment::Started, booted.live.machine.pid()).await?;
            }
            Ok(streams)
        };
        self.run_with(&machine, work, move |owner, outcome| {
            let outcome = outcome.and_then(|streams| owner.start_streams(&target, streams));
            owner.started(target, outcome, reply);
        });
    }

    /// Starts the input of a process that has just been started.
    fn start_streams(&mut self, target: &Target, exec: Option<Streams>) -> Result<(), Error> {
        let process = self.process(target)?;
        if let Some(streams) = exec {
            process.streams.replace(streams);
        }
        process.streams.start_input()
    }

    /// Accepts a start; returns what the guest has to be told of an exec before.
    pub(super) fn accept_start(
        &mut self,
        target: &Target,
    ) -> Result<Option<(Document, StdioPaths)>, Error> {
        let container = self.container(&target.container)?;
        if container.deleting {
            return Err(Error::State("the container is being deleted".into()));
        }
        container.process(target)?.may_start(target.name())?;
        if target.exec.is_some() {
            container.may_exec()?;
        }
        let process = container.process(target)?;
        process.state = ProcessState::Starting { exited: None, signal: None };
        Ok(process.oci.take().map(|oci| (oci, process.stdio.clone())))
    }

    fn started(&mut self, target: Target, outcome: Result<(), Error>, reply: Reply<u32>) {
        if let Err(error) = outcome {
            log::error!("starting {:?}: {error}", target.name());
            // A process that can't start has ended: callers wait for it and then delete it.
            let mut exit = Exit { status: NOT_STARTED, at: SystemTime::now() };
            if let Ok(process) = self.process(&target)
                && let ProcessState::Starting { exited, .. } = process.state
            {
                exit = exited.unwrap_or(exit);
                process.state = ProcessState::Created;
            }
            self.exited(&target, exit, None);
            // A start that failed on the way back, or too late, may have left it in the guest.
            self.send_signal(target, SIGKILL);
            return answer(reply, Err(error));
        }
        let Ok(container) = self.container(&target.container) else {
            return answer(reply, Err(Error::no_container(target.container.as_str())));
        };
        let pid = container.pid;
        let Ok(process) = container.process(&target) else {
            return answer(reply, Err(Error::no_exec(target.name())));
        };
        let (early, signal) = match process.state {
            ProcessState::Starting { exited, signal } => (exited, signal),
            // The machine ended in between, and with it the process.
            _ => return answer(reply, Ok(pid)),
        };
        process.state = ProcessState::Running;
        let size = process.size.take();
        let kind = match target.exec.clone() {
            None => EventKind::Started { pid },
            Some(exec) => EventKind::ExecStarted { exec, pid },
        };
        self.publish(&target.container, kind);
        // Who gave up waiting does not know that the exec runs, and would never end it.
        let unwanted = target.exec.is_some() && reply.is_closed();
        answer(reply, Ok(pid));
        if let Ok(booted) = self.booted() {
            if let Some(size) = size {
                self.send_size(&booted, target.clone(), size, None);
            }
            if target.exec.is_some() {
                self.watch_exit(target.clone(), &booted.live.guest);
            }
        }
        if unwanted {
            log::warn!("whoever asked for exec {:?} has gone: it is killed", target.name());
            if let Ok(process) = self.process(&target) {
                process.unwanted = true;
            }
        }
        if let Some(signal) = unwanted.then_some(SIGKILL).or(signal) {
            self.send_signal(target.clone(), signal);
        }
        if let Some(exit) = early {
            self.exited(&target, exit, None);
        }
    }

    /// Signals a process, or all of a container, without anybody who asked for it.
    fn send_signal(&self, target: Target, signal: u32) {
        let Ok(booted) = self.booted() else { return };
        let all = target.exec.is_none();
        let work = async move { booted.live.guest.signal(&target, signal, all).await };
        self.run(work, |_, outcome| {
            if let Err(error) = outcome {
                log::debug!("{error}");
            }
        });
    }
}
