//! Signals and terminal sizes.

use std::time::Duration;

use api::Error;
use api::events::{Exit, SIGKILL};
use api::request::Target;
use machine::patience::Patience;
use tokio::sync::watch;

use super::{Booted, Owner, Reply, answer};
use crate::container::ProcessState;

/// Largest signal number of Linux.
const MAX_SIGNAL: u32 = 64;

/// How long a container may take to end after SIGKILL. The delivery of its last output, which its
/// reader may hold back, does not count.
const KILL_LIMIT: Duration = Duration::from_secs(30);

impl Owner {
    pub(super) fn kill(&mut self, target: Target, signal: u32, all: bool, reply: Reply<()>) {
        if self.is_pod(&target) {
            let killed = self.kill_pod(&target, signal);
            return answer(reply, killed);
        }
        // As under runc: an exec's other processes can't be told apart.
        let all = all && target.exec.is_none();
        let accepted = self.accept_signal(&target, signal);
        let (booted, resume) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return answer(reply, Err(error)),
        };
        if signal == 0 {
            // A probe of callers for whether the process lives, which is known here.
            return answer(reply, Ok(()));
        }
        if target.exec.is_some() && self.process(&target).is_ok_and(|exec| exec.keep_signal(signal))
        {
            return answer(reply, Ok(()));
        }
        if signal == SIGKILL && target.exec.is_none() {
            self.insist(&target, &booted);
        }
        let asked = target.clone();
        let machine = booted.live.machine.clone();
        let steps = self.steps.clone();
        let work = async move {
            // A frozen process would die only when thawed.
            if resume {
                booted.live.guest.resume(&asked.container).await?;
                let container = asked.container.clone();
                steps.send(move |owner| owner.set_paused(&container, false));
            }
            booted.live.guest.signal(&asked, signal, all).await
        };
        self.run_with(&machine, work, move |owner, outcome| {
            // One that has ended with its machine is as dead as was asked for.
            let gone = owner.process(&target).and_then(|process| process.may_signal(&target));
            answer(reply, outcome.map_err(|error| gone.err().unwrap_or(error)));
        });
    }

    /// Ends the machine if a killed container does not end: its guest does not do what it is told,
    /// or a process of it hangs in the guest's kernel for good. The other watchdog is `heartbeat.rs`,
    /// over the guest's agent.
    fn insist(&mut self, target: &Target, booted: &Booted) {
        let patience = booted.live.machine.patience().clone();
        let Ok(process) = self.process(target) else { return };
        let ended = process.ended.subscribe();
        let id = target.container.clone();
        self.run(ends(ended, patience), move |owner, ended| {
            if !ended {
                let limit = KILL_LIMIT.as_secs();
                owner.guest_lost(&format!("container {id} goes on {limit} s after SIGKILL"));
            }
        });
    }

    fn accept_signal(&mut self, target: &Target, signal: u32) -> Result<(Booted, bool), Error> {
        if signal > MAX_SIGNAL {
            return Err(Error::Invalid(format!("signal {signal} does not exist")));
        }
        let container = self.container(&target.container)?;
        let paused = container.paused;
        container.process(target)?.may_signal(target)?;
        let booted = self.booted().map_err(|_| Error::Exited(target.name().to_owned()))?;
        Ok((booted, paused && signal == SIGKILL))
    }

    pub(super) fn resize(&mut self, target: Target, size: (u32, u32), reply: Reply<()>) {
        let process = match self.process(&target) {
            Ok(process) => process,
            Err(error) => return answer(reply, Err(error)),
        };
        let running = match process.state {
            ProcessState::Running => true,
            ProcessState::Created | ProcessState::Starting { .. } => {
                process.size = Some(size);
                false
            }
            ProcessState::Stopped(_) => false,
        };
        if !running || !process.stdio.terminal {
            return answer(reply, Ok(()));
        }
        match self.booted() {
            Ok(booted) => self.send_size(&booted, target, size, Some(reply)),
            Err(error) => answer(reply, Err(error)),
        }
    }

    pub(super) fn send_size(
        &self,
        booted: &Booted,
        target: Target,
        size: (u32, u32),
        reply: Option<Reply<()>>,
    ) {
        let guest = booted.live.guest.clone();
        let work = async move { guest.resize(&target, size).await };
        self.run_with(&booted.live.machine, work, move |_, outcome| match reply {
            Some(reply) => answer(reply, outcome),
            None => {
                if let Err(error) = outcome {
                    log::debug!("{error}");
                }
            }
        });
    }
}

/// Whether a killed process ends in time.
pub(super) async fn ends(mut ended: watch::Receiver<Option<Exit>>, patience: Patience) -> bool {
    patience.limit(KILL_LIMIT, ended.wait_for(Option::is_some)).await.outcome.is_some()
}
