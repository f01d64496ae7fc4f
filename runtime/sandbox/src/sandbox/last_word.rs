//! The true reason of what fails while a machine is over, or about to be. Work that is under way
//! then meets the end of a connection, a mount that is gone, or worse. Its caller is told the
//! machine's own end instead.

use std::sync::Arc;
use std::time::Duration;

use api::Error;
use host::cgroup::Cgroup;
use machine::{End, Machine};

use super::{Booted, Outcome, Owner, Steps, booted};

/// How long a machine whose agent is gone may take to say why, and then to end when it is told to.
pub(super) const LAST_WORD: Duration = Duration::from_millis(500);

/// How long work that lost its guest waits for the machine's end: a last word, and an end by force.
const VERDICT: Duration = LAST_WORD.saturating_mul(4);

/// The end of the machine that `error` may come from.
pub(super) async fn last_word(machine: &Machine, error: &Error) -> Option<End> {
    let limit = match error {
        Error::Disconnected(_) => VERDICT,
        Error::Unavailable(_) | Error::MachineEnded(_) => LAST_WORD,
        // The guest or the host has answered: only an end that is known explains it better.
        _ => Duration::ZERO,
    };
    tokio::time::timeout(limit, machine.ended()).await.ok()
}

/// Why the machine ended, in one line: `blame` is why this process ended it, if it did. What runs
/// in `cgroup` may have been killed for want of memory.
pub(super) fn reason(end: &End, blame: Option<&str>, cgroup: Option<&Cgroup>) -> String {
    if end.killed()
        && let Some(killer) = cgroup.and_then(Cgroup::out_of_memory)
    {
        return format!("the host's kernel killed the VMM for want of memory: {killer}");
    }
    match blame.filter(|_| end.by_us) {
        Some(blame) => format!("{blame}; {}", end.reason),
        None => end.reason.clone(),
    }
}

/// What came of work that needs the machine, and the machine's end if that is why it failed.
async fn judged<T>(
    steps: Steps,
    machine: Arc<Machine>,
    work: impl Future<Output = Result<T, Error>>,
) -> (Result<T, Error>, Option<End>) {
    let outcome = work.await;
    let Err(error) = &outcome else { return (outcome, None) };
    if let Error::Disconnected(text) = error {
        let text = text.clone();
        steps.send(move |owner| owner.guest_lost(&text));
    }
    let end = last_word(&machine, error).await;
    (outcome, end)
}

impl Owner {
    /// As [`Owner::run`], for work that needs the machine. If it fails and the machine is over,
    /// `commit` is told the machine's end in place of what the work met.
    pub(super) fn run_with<T: Send + 'static>(
        &self,
        machine: &Arc<Machine>,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
        commit: impl FnOnce(&mut Self, Result<T, Error>) + Send + 'static,
    ) {
        let work = judged(self.steps.clone(), machine.clone(), work);
        self.run(work, |owner, (outcome, end)| {
            let outcome = owner.judge(outcome, end.as_ref());
            commit(owner, outcome);
        });
    }

    /// The same, for work that waits for a boot.
    pub(super) fn run_booted<T, W>(
        &self,
        boot: Outcome,
        work: impl FnOnce(Booted) -> W + Send + 'static,
        commit: impl FnOnce(&mut Self, Result<T, Error>) + Send + 'static,
    ) where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let steps = self.steps.clone();
        let work = async move {
            match booted(boot).await {
                Ok(booted) => judged(steps, booted.live.machine.clone(), work(booted)).await,
                Err(error) => (Err(error), None),
            }
        };
        self.run(work, |owner, (outcome, end)| {
            let outcome = owner.judge(outcome, end.as_ref());
            commit(owner, outcome);
        });
    }

    /// The end of the machine in place of an error, if it is over.
    fn judge<T>(&mut self, outcome: Result<T, Error>, end: Option<&End>) -> Result<T, Error> {
        if let Some(end) = end {
            self.machine_ended(end);
        }
        outcome.map_err(|error| self.true_reason(error))
    }

    /// The end of the machine if it is over; otherwise `error` as it is.
    fn true_reason(&self, error: Error) -> Error {
        match self.booted() {
            Err(Error::MachineEnded(reason)) => Error::machine_over(&reason),
            _ => error,
        }
    }
}
