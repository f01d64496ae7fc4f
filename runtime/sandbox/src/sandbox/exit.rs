//! The end of processes: seen once, told in order, after their output.

use std::time::{Duration, SystemTime};

use api::events::{EventKind, Exit, SIGKILL};
use api::request::Target;
use api::usage::Usage;
use api::{ContainerId, Error, ExecId};
use machine::guest::Guest;
use tokio::sync::watch;

use super::{Owner, Slot};
use crate::container::{Container, ProcessState};
use crate::stdio;

/// How long the ends of execs may come after that of their container's init.
const EXECS: Duration = Duration::from_secs(5);

/// Exit status of a process about which the guest knows nothing.
const UNKNOWN: u32 = 255;

impl Owner {
    /// Waits beside the loop for the end of a process and its output.
    pub(super) fn watch_exit(&mut self, target: Target, guest: &Guest) {
        let Ok(process) = self.process(&target) else { return };
        let (drain, ended) = (process.streams.drain(), process.ended.clone());
        let (guest, asked) = (guest.clone(), target.clone());
        let work = async move { end_of(&asked, &guest, drain, &ended).await };
        self.run(work, move |owner, end| match end {
            Ok((exit, usage)) => owner.exited(&target, exit, usage),
            Err(error) => owner.guest_lost(&error.to_string()),
        });
    }

    /// Records the end of a process. The second time it does nothing.
    pub(super) fn exited(&mut self, target: &Target, exit: Exit, usage: Option<Usage>) {
        if let Some(usage) = &usage {
            self.oom_killed(&target.container, usage.memory_events.oom_kill);
        }
        let Ok(container) = self.container(&target.container) else { return };
        if usage.is_some() {
            container.last_stats = usage;
        }
        let Ok(process) = container.process(target) else { return };
        match &mut process.state {
            ProcessState::Stopped(_) => {}
            // Its start has not been told yet.
            ProcessState::Starting { exited, .. } => *exited = Some(exit),
            _ if target.exec.is_none() => self.init_exited(&target.container, exit),
            _ => self.tell(target, exit),
        }
    }

    /// Ends every process of a container that has not ended, execs first.
    pub(super) fn end_all(&mut self, id: &ContainerId, exit: Exit) {
        let Some(Slot::Present(container)) = self.containers.get(id) else { return };
        let execs = container.execs.iter().filter(|(_, exec)| exec.is_running());
        let execs: Vec<ExecId> = execs.map(|(exec, _)| exec.clone()).collect();
        for exec in execs {
            let target = Target { container: id.clone(), exec: Some(exec) };
            self.exited(&target, exit, None);
        }
        self.exited(&Target { container: id.clone(), exec: None }, exit, None);
    }

    /// Holds the end of init back until its execs' ends are told.
    fn init_exited(&mut self, id: &ContainerId, exit: Exit) {
        let Ok(container) = self.container(id) else { return };
        if !execs_run(container) {
            return self.tell(&Target { container: id.clone(), exec: None }, exit);
        }
        let first = container.init_exit.replace(exit).is_none();
        if first {
            let id = id.clone();
            self.run(tokio::time::sleep(EXECS), move |owner, ()| owner.end_execs(&id));
        }
    }

    /// The ends of some execs of a container whose init is gone have not been told: the guest
    /// does not tell them, or nobody reads their output.
    fn end_execs(&mut self, id: &ContainerId) {
        let Ok(container) = self.container(id) else { return };
        let Some(exit) = container.init_exit else { return };
        let killed = Exit { status: Exit::KILLED, at: exit.at };
        let execs = container.execs.iter().filter(|(_, exec)| exec.is_running());
        let execs: Vec<_> = execs.map(|(exec, _)| exec.clone()).collect();
        for exec in execs {
            self.tell(&Target { container: id.clone(), exec: Some(exec) }, killed);
        }
    }

    fn tell(&mut self, target: &Target, exit: Exit) {
        let Ok(container) = self.container(&target.container) else { return };
        let pid = container.pid;
        let Ok(process) = container.process(target) else { return };
        let exit = process.stop(exit);
        let unwanted = process.unwanted;
        if target.exec.is_none() {
            container.init_exit = None;
        }
        let pending = container.init_exit.filter(|_| !execs_run(container));
        let exec = target.exec.clone();
        self.publish(&target.container, EventKind::Exited { exec, pid, exit });
        if unwanted {
            log::debug!("exec {:?} is forgotten", target.name());
            self.forget_exec(target.clone());
        }
        if let Some(exit) = pending {
            self.tell(&Target { container: target.container.clone(), exec: None }, exit);
        }
    }

    /// Whether any container is left, in whatever state.
    pub(super) fn is_empty(&self) -> bool {
        !self.containers.values().any(|slot| matches!(slot, Slot::Present(_) | Slot::Reserved))
    }
}

fn execs_run(container: &Container) -> bool {
    container.execs.values().any(crate::container::Process::is_running)
}

/// Waits for the end of a process; for an init, ends what it left behind and takes the metrics.
async fn end_of(
    target: &Target,
    guest: &Guest,
    drain: stdio::Drain,
    ended: &watch::Sender<Option<Exit>>,
) -> Result<(Exit, Option<Usage>), Error> {
    let status = match guest.wait(target).await {
        Ok(status) => status,
        Err(error @ Error::Disconnected(_)) => return Err(error),
        Err(error) => {
            log::error!("process {:?}: {error}", target.name());
            UNKNOWN
        }
    };
    let exit = Exit { status, at: SystemTime::now() };
    ended.send_replace(Some(exit));
    let mut usage = None;
    if target.exec.is_none() {
        // Without a pid namespace of its own the container's other processes live on.
        if let Err(error) = guest.signal(target, SIGKILL, true).await {
            log::debug!("{error}");
        }
        usage = guest.stats(&target.container).await.ok();
    }
    drain.done().await;
    Ok((exit, usage))
}
