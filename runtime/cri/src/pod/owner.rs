//! The owner of a pod: one task that alone changes the pod's rows. It decides by [`policy`], lets
//! effects run beside it, and tells everybody who waits for one how it ended. Who asked may go: what
//! was begun goes on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::effects;
use super::fact::{Fact, Rows};
use super::handle::{Answer, Ask, Message, Pod};
use super::policy::{Job, Situation, Verdict};
use super::site::Site;
use crate::fault::Fault;

/// Most requests that wait for an owner, who never waits for anything but the records.
const WAITING: usize = 64;

/// Gives a pod that is on record an owner.
pub(crate) fn own(site: Arc<Site>, rows: Rows) -> Pod {
    let (inbox, messages) = mpsc::channel(WAITING);
    let pod = Pod { site, inbox };
    let owner = Owner {
        pod: pod.clone(),
        rows,
        jobs: JoinSet::new(),
        waiters: HashMap::new(),
        later: Vec::new(),
        stops: HashMap::new(),
    };
    tokio::spawn(owner.run(messages));
    pod
}

struct Owner {
    pod: Pod,
    rows: Rows,
    jobs: JoinSet<(Job, Answer)>,
    /// Who waits for what is under way.
    waiters: HashMap<Job, Vec<oneshot::Sender<Answer>>>,
    /// What is looked at again when a job is over.
    later: Vec<(Job, Ask, oneshot::Sender<Answer>)>,
    /// When the containers that are being stopped are killed.
    stops: HashMap<String, watch::Sender<Instant>>,
}

impl Owner {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    None => return,
                    Some(Message::Ask(ask, reply)) => self.consider(ask, reply),
                    Some(Message::Fact(fact, reply)) => {
                        let written = self.write(fact).await;
                        // An effect that ended has no use for it.
                        let _ = reply.send(written);
                    }
                },
                Some(Ok((job, answer))) = self.jobs.join_next() => {
                    let removed = job == Job::RemovePod && answer.is_ok();
                    self.finish(&job, &answer);
                    if removed {
                        return;
                    }
                }
            }
        }
    }

    /// What `look` says of the situation.
    fn now<T>(&self, look: impl FnOnce(&Situation<'_>) -> T) -> T {
        let busy: HashSet<_> = self.waiters.keys().cloned().collect();
        let Rows { pod, containers } = &self.rows;
        look(&Situation { pod, containers, busy: &busy })
    }

    fn consider(&mut self, ask: Ask, reply: oneshot::Sender<Answer>) {
        let verdict = self.now(|now| ask.verdict(now));
        let answer = match verdict {
            Verdict::Begin => return self.begin(ask, reply),
            Verdict::Join => return self.join(&ask, reply),
            Verdict::After(job) => return self.later.push((job, ask, reply)),
            Verdict::Done(id) => Ok(id),
            Verdict::Refuse(fault) => Err(fault),
        };
        // Who asked may have gone.
        let _ = reply.send(answer);
    }

    fn begin(&mut self, ask: Ask, reply: oneshot::Sender<Answer>) {
        let job = ask.job();
        self.waiters.insert(job.clone(), vec![reply]);
        let (pod, rows) = (self.pod.clone(), self.rows.clone());
        let killed = self.deadline(&ask);
        self.jobs.spawn(async move {
            let doing = job.doing();
            let begun = Instant::now();
            let answer = effects::run(&pod, rows, ask, killed).await;
            match &answer {
                Ok(_) => log::debug!("pod {}: {doing}: {:?}", pod.site.id, begun.elapsed()),
                Err(fault) => log::warn!("pod {}: {doing}: {fault}", pod.site.id),
            }
            (job, answer)
        });
    }

    /// When a stop turns into a kill, which later requests can bring forward.
    fn deadline(&mut self, ask: &Ask) -> Option<watch::Receiver<Instant>> {
        let Ask::Stop(id, grace) = ask else { return None };
        let (sender, receiver) = watch::channel(after(*grace));
        self.stops.insert(id.clone(), sender);
        Some(receiver)
    }

    fn join(&mut self, ask: &Ask, reply: oneshot::Sender<Answer>) {
        if let Ask::Stop(id, grace) = ask
            && let Some(deadline) = self.stops.get(id)
        {
            let earlier = after(*grace);
            deadline.send_if_modified(|killed| {
                let sooner = earlier < *killed;
                *killed = earlier.min(*killed);
                sooner
            });
        }
        // The removal of a pod stops it, too.
        let jobs = [ask.job(), Job::RemovePod];
        let job = jobs.iter().find(|job| self.waiters.contains_key(job));
        if let Some(waiters) = job.and_then(|job| self.waiters.get_mut(job)) {
            waiters.push(reply);
        }
    }

    fn finish(&mut self, job: &Job, answer: &Answer) {
        if let Job::Stop(id) = job {
            self.stops.remove(id);
        }
        if matches!(job, Job::Create(..) | Job::Start(_)) && answer.is_err() {
            // It may have been what the pod went on for.
            let pod = self.pod.clone();
            tokio::spawn(async move { super::rest::idle(&pod).await });
        }
        for waiter in self.waiters.remove(job).unwrap_or_default() {
            // Who asked may have gone.
            let _ = waiter.send(answer.clone());
        }
        if matches!(job, Job::Remove(_)) && self.now(|now| now.is_left()) {
            // That it failed is in the log, and whoever removes the pod tries again.
            let (reply, _nobody) = oneshot::channel();
            self.consider(Ask::StopPod, reply);
        }
        let (again, later) =
            std::mem::take(&mut self.later).into_iter().partition(|(other, _, _)| other == job);
        self.later = later;
        for (_, ask, reply) in again {
            self.consider(ask, reply);
        }
    }

    /// Writes a fact. One that can't be written is not believed either.
    async fn write(&mut self, fact: Fact) -> Result<(), Fault> {
        let (rows, changes) = self.rows.clone().after(fact);
        if !changes.is_empty() {
            self.pod.site.node.records.put(changes).await?;
        }
        self.rows = rows;
        Ok(())
    }
}

/// The moment after so long; a long time from now if there is no such moment.
fn after(grace: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(10 * 365 * 86_400);
    let now = Instant::now();
    now.checked_add(grace.min(LONG)).unwrap_or(now)
}
