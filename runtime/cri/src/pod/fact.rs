//! What happened to a pod or a container, and what its row is after it (pure). Only a pod's owner
//! changes its rows, by these.

use protocol::cri::{ContainerResources, LinuxContainerUser};

use super::policy::Job;
use crate::record::Change;
use crate::restart;
use crate::row::{Container, ContainerPhase, Pod, PodPhase};

/// How a container's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Its exit code.
    pub(crate) code: u32,
    /// When, in nanoseconds since 1970.
    pub(crate) at: i64,
    /// Whether the kernel killed it for want of memory.
    pub(crate) out_of_memory: bool,
    /// Why the machine or the shim ended that it was in; empty when it ended by itself.
    pub(crate) cause: String,
}

impl Ending {
    /// The end of a process that nobody saw, known since this time: as of one that was killed.
    pub(crate) fn unseen(at: i64, cause: &str) -> Self {
        let code = api::events::Exit::KILLED;
        Self { code, at, out_of_memory: false, cause: cause.to_owned() }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fact {
    /// A container is about to be made.
    Creating(Box<Container>),
    /// It could not be made, and nothing is left of it.
    NotCreated(String),
    /// It exists, since then, and its process is this user's.
    Created(String, i64, LinuxContainerUser),
    /// Its process is about to be started.
    StartBegun(String),
    /// Its process runs, since then.
    Running(String, i64),
    /// Its process could not be started, at this time and for this reason.
    NotStarted(String, i64, String),
    /// Its process ended.
    Exited(String, Ending),
    /// Somebody asked for its end.
    Stopped(String),
    /// Its process runs again, since then.
    Restarted(String, i64),
    /// Its process could not be started again, at this time and for this reason.
    NotRestarted(String, i64, String),
    /// Its limits are these.
    Limited(String, Box<ContainerResources>),
    /// It is about to be removed.
    Removing(String),
    /// Nothing is left of it.
    Removed(String),
    /// The pod's machine or its shim ended, for this reason.
    PodEnded(String),
    /// Its shim is gone, and what it had on the node.
    NoShim,
    /// Its network is gone.
    NoNetwork,
    /// It takes nothing new.
    PodStopped,
    /// It is about to be removed.
    PodRemoving,
    /// Nothing is left of it.
    PodRemoved,
}

/// A pod and its containers, as they are on record.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rows {
    /// The pod.
    pub(crate) pod: Pod,
    /// Its containers.
    pub(crate) containers: Vec<Container>,
}

impl Rows {
    /// The rows as they are after `fact`, and how the records change by it. What says nothing new
    /// changes nothing.
    pub(crate) fn after(mut self, fact: Fact) -> (Self, Vec<Change>) {
        let change = match fact {
            Fact::Creating(row) => {
                self.containers.push((*row).clone());
                Some(Change::Container(row))
            }
            Fact::NotCreated(id) | Fact::Removed(id) => {
                let before = self.containers.len();
                self.containers.retain(|row| row.id != id);
                (self.containers.len() < before).then_some(Change::NoContainer(id))
            }
            Fact::Created(id, at, user) => self.container(&id, |row| {
                row.set_phase(ContainerPhase::Created);
                (row.created_at, row.user) = (at, Some(user));
            }),
            Fact::StartBegun(id) => self.container(&id, |row| row.start_begun = true),
            Fact::Running(id, at) => self.container(&id, |row| running(row, at)),
            Fact::NotStarted(id, at, why) => self.container(&id, |row| not_started(row, at, why)),
            Fact::Exited(id, ending) => self.container(&id, |row| exited(row, &ending)),
            Fact::Stopped(id) => self.container(&id, |row| row.stopped = true),
            Fact::Restarted(id, at) => self.container(&id, |row| restarted(row, at)),
            Fact::NotRestarted(id, at, why) => {
                self.container(&id, |row| not_restarted(row, at, why))
            }
            Fact::Limited(id, resources) => {
                self.container(&id, |row| row.resources = Some(*resources))
            }
            Fact::Removing(id) => {
                self.container(&id, |row| row.set_phase(ContainerPhase::Removing))
            }
            Fact::PodEnded(reason) => self.pod(|pod| ended(pod, reason)),
            Fact::NoShim => self.pod(|pod| pod.has_shim = false),
            Fact::NoNetwork => self.pod(|pod| {
                pod.attachment.clear();
                pod.netns.clear();
            }),
            Fact::PodStopped => self.pod(|pod| {
                if pod.phase() < PodPhase::Stopped {
                    pod.set_phase(PodPhase::Stopped);
                }
            }),
            Fact::PodRemoving => self.pod(|pod| pod.set_phase(PodPhase::Removing)),
            Fact::PodRemoved => Some(Change::NoPod(self.pod.id.clone())),
        };
        (self, change.into_iter().collect())
    }

    /// The container of this id.
    pub(crate) fn row(&self, id: &str) -> Option<&Container> {
        self.containers.iter().find(|row| row.id == id)
    }

    fn container(&mut self, id: &str, change: impl FnOnce(&mut Container)) -> Option<Change> {
        let row = self.containers.iter_mut().find(|row| row.id == id)?;
        let before = row.clone();
        change(row);
        (*row != before).then(|| Change::Container(Box::new(row.clone())))
    }

    fn pod(&mut self, change: impl FnOnce(&mut Pod)) -> Option<Change> {
        let before = self.pod.clone();
        change(&mut self.pod);
        (self.pod != before).then(|| Change::Pod(Box::new(self.pod.clone())))
    }
}

/// The end may have been told before the start's answer came: then it stands.
fn running(row: &mut Container, at: i64) {
    if row.phase() == ContainerPhase::Created {
        row.set_phase(ContainerPhase::Running);
    }
    if row.started_at == 0 {
        row.started_at = at;
    }
}

/// Its end is no more; that it had one is counted.
fn restarted(row: &mut Container, at: i64) {
    if row.phase() != ContainerPhase::Exited {
        return;
    }
    row.delays = restart::delays(row);
    row.restarts = row.restarts.saturating_add(1);
    row.set_phase(ContainerPhase::Running);
    row.started_at = at;
    (row.finished_at, row.exit_code) = (0, 0);
    row.reason.clear();
    row.message.clear();
}

/// It counts as a start and an end at once.
fn not_restarted(row: &mut Container, at: i64, why: String) {
    if row.phase() != ContainerPhase::Exited {
        return;
    }
    restarted(row, at);
    not_started(row, at, why);
}

/// What could not be started has ended, with the code that shells and Docker give for it.
fn not_started(row: &mut Container, at: i64, why: String) {
    const CAN_NOT_RUN: i32 = 128;
    if row.finished_at == 0 {
        row.set_phase(ContainerPhase::Exited);
        row.finished_at = at.max(row.created_at).max(1);
        row.exit_code = CAN_NOT_RUN;
        "StartError".clone_into(&mut row.reason);
        row.message = why;
    }
}

/// The first end that is told is the true one: a shim that is cleaned up after tells another.
fn exited(row: &mut Container, ending: &Ending) {
    if row.finished_at != 0 {
        return;
    }
    if row.lives() {
        row.set_phase(ContainerPhase::Exited);
    }
    row.finished_at = ending.at.max(row.created_at).max(1);
    row.exit_code = i32::try_from(ending.code).unwrap_or(i32::MAX);
    let (reason, message) = match ending {
        Ending { out_of_memory: true, .. } => ("OOMKilled", ""),
        Ending { cause, .. } if !cause.is_empty() => ("Error", cause.as_str()),
        Ending { code: 0, .. } => ("Completed", ""),
        _ => ("Error", ""),
    };
    reason.clone_into(&mut row.reason);
    message.clone_into(&mut row.message);
}

fn ended(pod: &mut Pod, reason: String) {
    if pod.phase() < PodPhase::Stopped {
        pod.set_phase(PodPhase::Stopped);
        pod.reason = reason;
    }
}

impl Job {
    /// What is under way, for people.
    pub(crate) fn doing(&self) -> String {
        match self {
            Self::Create(name, attempt) => {
                format!("creating container {name:?}, attempt {attempt}")
            }
            Self::Start(id) => format!("starting container {id}"),
            Self::Stop(id) => format!("stopping container {id}"),
            Self::Restart(id) => format!("starting container {id} again"),
            Self::Remove(id) => format!("removing container {id}"),
            Self::Update(id) => format!("updating container {id}"),
            Self::Resize => "resizing the pod".to_owned(),
            Self::StopPod => "stopping the pod".to_owned(),
            Self::RemovePod => "removing the pod".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let phase = ContainerPhase::Created.into();
        let container = Container { id: "c".into(), phase, created_at: 5, ..Container::default() };
        let pod = Pod { id: "p".into(), phase: PodPhase::Ready.into(), ..Pod::default() };
        Rows { pod, containers: vec![container] }
    }

    fn ending(code: u32) -> Ending {
        Ending { code, at: 20, out_of_memory: false, cause: String::new() }
    }

    fn after(facts: &[Fact]) -> Rows {
        facts.iter().fold(rows(), |rows, fact| rows.after(fact.clone()).0)
    }

    #[test]
    fn end_that_is_told_before_the_starts_answer_stands() {
        let facts = [Fact::Exited("c".into(), ending(3)), Fact::Running("c".into(), 10)];
        let rows = after(&facts);
        let row = &rows.containers[0];
        assert_eq!((row.phase(), row.exit_code), (ContainerPhase::Exited, 3));
        assert_eq!((row.started_at, row.finished_at), (10, 20));
    }

    #[test]
    fn first_end_is_the_true_one() {
        let told = [Fact::Exited("c".into(), ending(0)), Fact::Exited("c".into(), ending(137))];
        let row = &after(&told).containers[0];
        assert_eq!((row.exit_code, row.reason.as_str()), (0, "Completed"));
        let (_, changes) = after(&told).after(told[1].clone());
        assert!(changes.is_empty(), "nothing new, nothing written");
    }

    #[test]
    fn end_tells_its_cause() {
        let machine = Ending { cause: "guest kernel panic".into(), ..ending(137) };
        let row = &after(&[Fact::Exited("c".into(), machine)]).containers[0];
        assert_eq!((row.reason.as_str(), row.message.as_str()), ("Error", "guest kernel panic"));
        let memory = Ending { out_of_memory: true, ..ending(137) };
        assert_eq!(after(&[Fact::Exited("c".into(), memory)]).containers[0].reason, "OOMKilled");
    }

    #[test]
    fn pod_that_ended_by_itself_keeps_the_reason_and_its_network() {
        let attachment = vec![1];
        let mut rows = rows();
        rows.pod.attachment = attachment.clone();
        let (rows, changes) = rows.after(Fact::PodEnded("killed".into()));
        assert_eq!(changes.len(), 1);
        let (rows, changes) = rows.after(Fact::PodStopped);
        assert!(changes.is_empty());
        assert_eq!((rows.pod.reason.as_str(), &rows.pod.attachment), ("killed", &attachment));
    }

    #[test]
    fn container_that_runs_again_has_no_end() {
        let begun = [Fact::Running("c".into(), 10), Fact::Exited("c".into(), ending(3))];
        let rows = after(&begun).after(Fact::Restarted("c".into(), 30)).0;
        let row = &rows.containers[0];
        assert_eq!((row.phase(), row.started_at), (ContainerPhase::Running, 30));
        assert_eq!((row.finished_at, row.exit_code, row.reason.as_str()), (0, 0, ""));
        assert_eq!((row.restarts, row.delays), (1, 1));
        assert!(rows.clone().after(Fact::Restarted("c".into(), 40)).1.is_empty(), "told twice");
        let rows = rows.after(Fact::Exited("c".into(), Ending { at: 50, ..ending(4) })).0;
        assert_eq!(rows.containers[0].exit_code, 4);
        let rows = rows.after(Fact::NotRestarted("c".into(), 60, "no disk".into())).0;
        let row = &rows.containers[0];
        assert_eq!((row.phase(), row.finished_at, row.restarts), (ContainerPhase::Exited, 60, 2));
        assert_eq!((row.exit_code, row.message.as_str()), (128, "no disk"));
    }

    #[test]
    fn removed_container_leaves_no_row() {
        let (rows, changes) = rows().after(Fact::Removed("c".into()));
        assert_eq!(changes, [Change::NoContainer("c".into())]);
        assert!(rows.containers.is_empty());
        assert!(rows.after(Fact::Removed("c".into())).1.is_empty());
    }
}
