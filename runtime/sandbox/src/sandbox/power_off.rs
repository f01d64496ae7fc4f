//! The machine's end. The guest is asked to power off, or the machine is ended by force. That
//! happens because the sandbox is over, the pod was killed, or the guest is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::Error;
use api::events::{EventKind, Exit};
use host::cgroup::Cgroup;
use host::mounts::Share;
use host::store::{PlaceLock, STARTING, StateDir};
use machine::patience::Patience;
use machine::{End, Machine};
use tokio::sync::watch;
use tokio::time::Instant;

use super::last_word::{self, LAST_WORD};
use super::{Booted, Owner, Phase, Slot};
use crate::blocking::blocking;

/// How long a guest may take to flush and power off if its agent says nothing meanwhile.
const POWER_OFF: Duration = Duration::from_secs(10);

/// How long it may take if its agent answers: gigabytes may be on their way to a slow disk.
const FLUSH: Duration = Duration::from_mins(1);

/// Pause between an answer meanwhile and the next question.
const STILL_THERE: Duration = Duration::from_secs(1);

impl Owner {
    /// Lets the guest flush what it has to and ends the machine; then the pod ends with
    /// `status`, and every container that still runs as killed.
    pub(super) fn stop_machine(&mut self, status: u32) {
        let properly = self.is_worth_a_power_off();
        let phase = std::mem::replace(&mut self.phase, Phase::New);
        let Phase::Running(booted) = phase else {
            self.phase = phase;
            return;
        };
        let (sender, over) = watch::channel(false);
        self.phase = Phase::Ending { over };
        let work = end(booted, properly);
        self.run(work, move |owner, ()| {
            owner.phase = Phase::Ended { reason: "the sandbox was stopped".into() };
            owner.end_containers(status);
            sender.send_replace(true);
        });
    }

    /// Ends the machine if there is one, removes all state and says so.
    pub(super) fn close(&mut self) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        // Whoever holds it is about to join; it is waited for below.
        let lock = self.state.try_lock().ok().flatten();
        if let Some(socket) = self.identity.socket.take()
            && let Err(error) = std::fs::remove_file(&socket)
        {
            log::debug!("removing {}: {error}", socket.display());
        }
        let properly = self.is_worth_a_power_off();
        let phase = std::mem::replace(&mut self.phase, Phase::Ended { reason: "shut down".into() });
        let (state, cgroup) = (self.state.clone(), self.cgroup.take());
        let work = async move {
            let place = held(lock, &state).await;
            end_in(phase, properly, &state).await;
            if let Some(cgroup) = cgroup
                && let Err(error) = cgroup.dissolve()
            {
                log::warn!("leaving the pod's cgroup: {error}");
            }
            // A process that hangs in the host's kernel is waited for, and this thread must not be.
            let path = state.path().display().to_string();
            let destroy = move || state.destroy_except(Some(std::process::id()));
            let destroyed = tokio::task::spawn_blocking(destroy).await;
            if let Err(error) = destroyed.unwrap_or_else(|error| Err(std::io::Error::other(error)))
            {
                log::error!("removing {path}: {error}");
            }
            drop(place);
        };
        self.run(work, |owner, ()| {
            // Those that wait for what ran until now are to hear of its end.
            owner.end_containers(Exit::KILLED);
            owner.closed.send_replace(true);
        });
    }

    /// The guest does not do any more what it has to although the machine runs: end it, so that
    /// the truth becomes visible.
    pub(super) fn guest_lost(&mut self, reason: &str) {
        let Phase::Running(booted) = &self.phase else { return };
        if self.blame.is_some() {
            return;
        }
        let machine = booted.live.machine.clone();
        log::error!("guest lost: {reason}");
        self.blame = Some(reason.to_owned());
        tokio::spawn(async move { end_lost(&machine).await });
    }

    /// Takes note that the machine is over, and with it all that ran in it.
    pub(super) fn machine_ended(&mut self, end: &End) {
        let Phase::Running(booted) = &self.phase else { return };
        tokio::spawn(clear(booted.live.share.clone()));
        let starved =
            end.killed() && self.cgroup.as_ref().and_then(Cgroup::out_of_memory).is_some();
        // What the machine said of itself is the truth, unless it was this process that ended it.
        let reason = last_word::reason(end, self.blame.as_deref(), self.cgroup.as_ref());
        log::error!("machine ended: {reason}");
        if starved {
            self.tell_out_of_memory();
        }
        self.phase = Phase::Ended { reason };
        self.end_containers(Exit::KILLED);
    }
}

impl Owner {
    /// A guest that runs nothing and has nothing to write is ended without its help.
    fn is_worth_a_power_off(&self) -> bool {
        let writes = match &self.phase {
            Phase::Running(booted) => booted.live.writes.load(Ordering::Relaxed),
            _ => false,
        };
        self.careful || writes || self.runs_something()
    }

    /// Tells of each container that runs that it ends for want of memory.
    fn tell_out_of_memory(&self) {
        for (id, slot) in &self.containers {
            if let Slot::Present(container) = slot
                && container.init.is_running()
            {
                self.publish(id, EventKind::OutOfMemory);
            }
        }
    }
}

/// The lock on the sandbox's place, so that no start of the same name comes into its end. An end
/// does not wait for a start that hangs.
async fn held(lock: Option<PlaceLock>, state: &StateDir) -> Option<PlaceLock> {
    if lock.is_some() {
        return lock;
    }
    let state = state.clone();
    let taken = tokio::task::spawn_blocking(move || state.lock(STARTING)).await;
    let taken = taken.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    taken.inspect_err(|error| log::warn!("ending without the lock: {error}")).ok()
}

/// Ends what there is of a machine.
async fn end_in(phase: Phase, properly: bool, state: &StateDir) {
    match phase {
        Phase::Running(booted) => {
            note_closing(state);
            end(booted, properly).await;
        }
        Phase::Ending { mut over } => {
            note_closing(state);
            // An error means that it is over, too.
            let _over = over.wait_for(|over| *over).await;
        }
        Phase::Booting { boot, _wanted: wanted } => {
            drop(wanted);
            // What it has made in spite of that is ended as any machine.
            if let Ok(booted) = super::booted(boot).await {
                end(booted, false).await;
            }
        }
        Phase::New | Phase::Ended { .. } => {}
    }
}

/// Asks those who clean up by force for patience.
fn note_closing(state: &StateDir) {
    if let Err(error) = std::fs::write(state.closing(), "") {
        log::warn!("writing {}: {error}", state.closing().display());
    }
}

/// Ends a machine whose guest is lost, soon and in any case.
async fn end_lost(machine: &Machine) {
    // A panic or power-off breaks the connection as well and says more: let it speak first.
    if tokio::time::timeout(LAST_WORD, machine.ended()).await.is_ok() {
        return;
    }
    let stopped = async {
        if let Err(error) = machine.stop().await {
            log::debug!("stopping a machine without agent: {error}");
        }
        machine.ended().await
    };
    if tokio::time::timeout(LAST_WORD, stopped).await.is_err() {
        machine.kill();
    }
}

/// Ends the machine, `properly` by the guest itself, and waits until its network is undone: the
/// process may end after this.
async fn end(mut booted: Booted, properly: bool) {
    end_machine(&booted, properly).await;
    clear(booted.live.share.clone()).await;
    booted.network.undone().await;
}

/// Unmounts what nobody sees any more.
async fn clear(share: Arc<Share>) {
    let doing = "unmounting what the machine saw";
    let unmount = move || share.clear().map_err(|error| Error::failed(doing, &error));
    blocking(doing, unmount).await.unwrap_or_else(|error| log::warn!("{error}"));
}

async fn end_machine(booted: &Booted, properly: bool) {
    let power_off = async {
        if let Err(error) = booted.live.guest.shutdown(FLUSH).await {
            log::debug!("{error}");
        }
        booted.live.machine.ended().await
    };
    if properly {
        tokio::select! {
            _ = power_off => return,
            waited = given_up(booted.live.machine.patience(), || booted.live.guest.check()) => {
                log::warn!("the guest did not power off within {} s", waited.as_secs());
            }
        }
    }
    if let Err(error) = booted.live.machine.stop().await {
        log::debug!("{error}");
    }
    booted.live.machine.ended().await;
}

/// Returns when a guest that powers off is waited for no more, with how long that was: its agent
/// is silent, or it takes too long in any case.
async fn given_up<A>(patience: &Patience, ask: impl Fn() -> A) -> Duration
where
    A: Future<Output = Result<(), Error>>,
{
    let begin = Instant::now();
    while begin.elapsed() < FLUSH {
        match patience.limit(POWER_OFF, ask()).await.outcome {
            Some(Ok(())) => tokio::time::sleep(STILL_THERE).await,
            // The connection ends shortly before the machine.
            Some(Err(_)) => {
                tokio::time::sleep(POWER_OFF).await;
                break;
            }
            None => break,
        }
    }
    begin.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn guest_that_answers_may_take_longer_to_power_off() {
        let clock = Patience::with(Vec::new());
        let there = given_up(&clock, || async { Ok(()) }).await;
        assert!(there >= FLUSH && there < FLUSH + 2 * STILL_THERE, "{there:?}");
        assert_eq!(given_up(&clock, std::future::pending).await.as_secs(), POWER_OFF.as_secs());
        let gone = given_up(&clock, || async { Err(Error::Failed("gone".into())) }).await;
        assert_eq!(gone.as_secs(), POWER_OFF.as_secs());
    }
}
