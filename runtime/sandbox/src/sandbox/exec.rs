//! Registering additional processes, and starting processes of both kinds.

use std::time::SystemTime;

use super::{Owner, Reply, answer};
use crate::container::{ExecRequest, Process, ProcessState, Target};
use crate::events::{EventKind, Exit};
use crate::stdio::{self, Streams};
use crate::{Error, spec};

/// Exit status of a process that could not be started, as a shell has it.
const NOT_STARTED: u32 = 127;

impl Owner {
    pub(super) fn exec(&mut self, request: ExecRequest, reply: Reply<()>) {
        let ExecRequest { target, mut process, stdio } = request;
        let accepted = self.accept_exec(&target).and_then(|exec| {
            let notes = spec::translate_exec(&mut process)?;
            notes.iter().for_each(|note| log::info!("exec {exec}: {note}"));
            let booted = self.booted()?;
            let reserved = Process::new(stdio.clone(), Streams::none());
            self.container(&target.container)?.execs.insert(exec, reserved);
            Ok(booted)
        });
        let booted = match accepted {
            Ok(booted) => booted,
            Err(error) => return answer(reply, Err(error)),
        };
        let namespace = self.identity.namespace.clone();
        let owner = stdio::Owner { namespace, container: target.container.clone() };
        let asked = target.clone();
        let work = async move {
            let (streams, ids) = Streams::connect(&stdio, &owner, &booted.guest).await?;
            booted.guest.exec(&asked, &process, ids).await?;
            Ok(streams)
        };
        self.run(work, move |owner, outcome| owner.exec_added(&target, outcome, reply));
    }

    fn accept_exec(&mut self, target: &Target) -> Result<crate::ExecId, Error> {
        let container = self.container(&target.container)?;
        let exec = target.exec.clone().ok_or_else(|| Error::Invalid("exec without id".into()))?;
        if container.execs.contains_key(&exec) {
            return Err(Error::Exists { what: "exec", id: exec.to_string() });
        }
        container.may_exec()?;
        Ok(exec)
    }

    fn exec_added(&mut self, target: &Target, outcome: Result<Streams, Error>, reply: Reply<()>) {
        let Some(exec) = target.exec.clone() else { return };
        let added = outcome.and_then(|streams| {
            self.process(target)?.streams = streams;
            Ok(())
        });
        match &added {
            Ok(()) => self.publish(&target.container, EventKind::ExecAdded { exec }),
            Err(_) => {
                if let Ok(container) = self.container(&target.container) {
                    container.execs.remove(&exec);
                }
            }
        }
        answer(reply, added);
    }

    pub(super) fn start(&mut self, target: Target, reply: Reply<u32>) {
        let accepted = self.accept_start(&target).and_then(|()| self.booted());
        let booted = match accepted {
            Ok(booted) => booted,
            Err(error) => return answer(reply, Err(error)),
        };
        if let Ok(process) = self.process(&target) {
            process.state = ProcessState::Starting { exited: None };
        }
        let asked = target.clone();
        let work = async move { booted.guest.start(&asked).await };
        self.run(work, move |owner, outcome| owner.started(target, outcome, reply));
    }

    fn accept_start(&mut self, target: &Target) -> Result<(), Error> {
        let container = self.container(&target.container)?;
        if container.deleting {
            return Err(Error::State("the container is being deleted".into()));
        }
        container.process(target)?.may_start(target.name())?;
        if target.exec.is_some() { container.may_exec() } else { Ok(()) }
    }

    fn started(&mut self, target: Target, outcome: Result<(), Error>, reply: Reply<u32>) {
        if let Err(error) = outcome {
            log::error!("starting {:?}: {error}", target.name());
            // A process that can't start has ended: callers wait for it and then delete it.
            let mut exit = Exit { status: NOT_STARTED, at: SystemTime::now() };
            if let Ok(process) = self.process(&target)
                && let ProcessState::Starting { exited } = process.state
            {
                exit = exited.unwrap_or(exit);
                process.state = ProcessState::Created;
            }
            self.exited(&target, exit, None);
            return answer(reply, Err(error));
        }
        let Ok(container) = self.container(&target.container) else {
            return answer(reply, Err(Error::no_container(target.container.as_str())));
        };
        let pid = container.pid;
        let Ok(process) = container.process(&target) else {
            return answer(reply, Err(Error::no_exec(target.name())));
        };
        let early = match process.state {
            ProcessState::Starting { exited } => exited,
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
        answer(reply, Ok(pid));
        if let Ok(booted) = self.booted() {
            if let Some(size) = size {
                self.send_size(&booted, target.clone(), size, None);
            }
            if target.exec.is_some() {
                self.watch_exit(target.clone(), &booted.guest);
            }
        }
        if let Some(exit) = early {
            self.exited(&target, exit, None);
        }
    }
}
