//! What a pod's owner does with a request, decided from its rows and from what is under way (pure).
//!
//! A request that is asked for again while it is under way joins it. One that has been done already
//! is answered as it was then. One that does not fit is refused with the reason.

use std::collections::HashSet;

use protocol::cri::ContainerConfig;

use crate::fault::Fault;
use crate::restart;
use crate::row::{Container, ContainerPhase, Pod, PodPhase};

/// Something that an owner can have under way, once at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    /// The container of this name and attempt is made.
    Create(String, u32),
    /// A container's process is started.
    Start(String),
    /// A container is stopped.
    Stop(String),
    /// A container's process is started again.
    Restart(String),
    /// A container is removed.
    Remove(String),
    /// A container's limits are changed.
    Update(String),
    /// The pod's limits are changed.
    Resize,
    /// The pod is stopped.
    StopPod,
    /// The pod is removed.
    RemovePod,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// Begin it.
    Begin,
    /// Its answer is that of the same job, which is under way.
    Join,
    /// Look again when this job is over.
    After(Job),
    /// It was done before; the container's id where there is one.
    Done(String),
    /// It does not fit.
    Refuse(Fault),
}

/// A pod, its containers, and what is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    /// The pod's row.
    pub(crate) pod: &'a Pod,
    /// Rows of all of its containers.
    pub(crate) containers: &'a [Container],
    /// What is under way.
    pub(crate) busy: &'a HashSet<Job>,
}

impl Situation<'_> {
    /// What to do with a request for a container.
    pub(crate) fn create(&self, config: &ContainerConfig) -> Verdict {
        let metadata = config.metadata.clone().unwrap_or_default();
        let job = Job::Create(metadata.name.clone(), metadata.attempt);
        if let Some(refusal) = self.takes_none() {
            return Verdict::Refuse(refusal);
        }
        let same = self.containers.iter().find(|row| row.metadata() == metadata);
        let Some(row) = same else {
            return if self.busy.contains(&job) { Verdict::Join } else { Verdict::Begin };
        };
        let name = format!("container {:?}, attempt {}", metadata.name, metadata.attempt);
        if row.config.as_ref() != Some(config) {
            let text = format!("{name} exists with another configuration: {}", row.id);
            return Verdict::Refuse(Fault::AlreadyExists(text));
        }
        let removal = Job::Remove(row.id.clone());
        match row.phase() {
            ContainerPhase::Creating if self.busy.contains(&job) => Verdict::Join,
            ContainerPhase::Removing if self.busy.contains(&removal) => Verdict::After(removal),
            ContainerPhase::Creating | ContainerPhase::Removing => {
                let text =
                    format!("{name} is there by half, and nobody ends it: remove it, or the pod");
                Verdict::Refuse(Fault::FailedPrecondition(text))
            }
            _ => Verdict::Done(row.id.clone()),
        }
    }

    /// What to do with a request to start a container.
    pub(crate) fn start(&self, id: &str) -> Verdict {
        let job = Job::Start(id.to_owned());
        if self.busy.contains(&job) {
            return Verdict::Join;
        }
        if let Some(refusal) = self.takes_none() {
            return Verdict::Refuse(refusal);
        }
        let Some(row) = self.row(id) else { return Verdict::Refuse(missing(id)) };
        match row.phase() {
            ContainerPhase::Created => Verdict::Begin,
            ContainerPhase::Running => Verdict::Done(id.to_owned()),
            phase => Verdict::Refuse(unfit(id, "started", phase)),
        }
    }

    /// What to do when a container's process is to be started again.
    pub(crate) fn restart(&self, id: &str) -> Verdict {
        let own = Job::Restart(id.to_owned());
        if self.busy.contains(&own) {
            return Verdict::Join;
        }
        if let Some(refusal) = self.takes_none() {
            return Verdict::Refuse(refusal);
        }
        let under_way = [Job::Stop(id.to_owned()), Job::Remove(id.to_owned())];
        if let Some(job) = under_way.into_iter().find(|job| self.busy.contains(job)) {
            return Verdict::After(job);
        }
        match self.row(id) {
            None => Verdict::Refuse(missing(id)),
            Some(row) if restart::due(self.pod, row).is_some() => Verdict::Begin,
            Some(_) => Verdict::Done(id.to_owned()),
        }
    }

    /// What to do with a request to stop a container. What does not run is stopped, unless it is to
    /// run again.
    pub(crate) fn stop(&self, id: &str) -> Verdict {
        if self.busy.contains(&Job::Stop(id.to_owned())) {
            return Verdict::Join;
        }
        let under_way = [Job::Start(id.to_owned()), Job::Restart(id.to_owned())];
        if let Some(job) = under_way.into_iter().find(|job| self.busy.contains(job)) {
            return Verdict::After(job);
        }
        let runs = |row: &Container| row.phase() == ContainerPhase::Running;
        let runs_again = |row: &Container| restart::due(self.pod, row).is_some();
        match self.row(id).is_some_and(|row| runs(row) || runs_again(row)) {
            true => Verdict::Begin,
            false => Verdict::Done(id.to_owned()),
        }
    }

    /// What to do with a request to remove a container. One that runs is killed first.
    pub(crate) fn remove(&self, id: &str) -> Verdict {
        if self.busy.contains(&Job::Remove(id.to_owned())) {
            return Verdict::Join;
        }
        let job = |job: fn(String) -> Job| job(id.to_owned());
        let under_way = [job(Job::Start), job(Job::Restart), job(Job::Update)];
        if let Some(job) = under_way.into_iter().find(|job| self.busy.contains(job)) {
            return Verdict::After(job);
        }
        match self.row(id) {
            Some(_) => Verdict::Begin,
            None => Verdict::Done(id.to_owned()),
        }
    }

    /// What to do with a request for other limits of a container.
    pub(crate) fn update(&self, id: &str) -> Verdict {
        let job = Job::Update(id.to_owned());
        if self.busy.contains(&job) {
            return Verdict::After(job);
        }
        let Some(row) = self.row(id) else { return Verdict::Refuse(missing(id)) };
        match row.lives() {
            true => Verdict::Begin,
            false => Verdict::Refuse(unfit(id, "updated", row.phase())),
        }
    }

    /// What to do with a request for other limits of the pod.
    pub(crate) fn resize(&self) -> Verdict {
        if self.busy.contains(&Job::Resize) {
            return Verdict::After(Job::Resize);
        }
        self.takes_none().map_or(Verdict::Begin, Verdict::Refuse)
    }

    /// What to do with a request to stop the pod. One that ended by itself still has its network.
    pub(crate) fn stop_pod(&self) -> Verdict {
        if self.busy.contains(&Job::StopPod) || self.busy.contains(&Job::RemovePod) {
            return Verdict::Join;
        }
        let nothing_left = self.pod.attachment.is_empty()
            && self.pod.netns.is_empty()
            && !self.pod.has_shim
            && self.pod.phase() != PodPhase::Ready;
        if nothing_left { Verdict::Done(self.pod.id.clone()) } else { Verdict::Begin }
    }

    /// What to do where the pod may have nothing to do any more.
    pub(crate) fn stop_idle(&self) -> Verdict {
        match self.is_idle() {
            true => self.stop_pod(),
            false => Verdict::Done(self.pod.id.clone()),
        }
    }

    /// Whether the pod has nothing to do any more. One that does not end with its containers, or has
    /// yet to run one, has.
    pub(crate) fn is_idle(&self) -> bool {
        let begun = |job: &Job| matches!(job, Job::Create(..) | Job::Start(_));
        let needs_it = |row: &Container| {
            row.lives()
                || row.phase() == ContainerPhase::Creating
                || restart::due(self.pod, row).is_some()
        };
        let goes_on = !self.pod.ends_with_containers()
            || self.busy.iter().any(begun)
            || self.containers.iter().any(needs_it)
            || self.containers.iter().all(|row| row.finished_at == 0);
        !goes_on
    }

    /// Whether the last container of a pod that ends with its containers has just been removed.
    pub(crate) fn is_left(&self) -> bool {
        let comes = self.busy.iter().any(|job| matches!(job, Job::Create(..)));
        self.pod.ends_with_containers() && self.containers.is_empty() && !comes
    }

    /// What to do with a request to remove the pod, which stops it first.
    pub(crate) fn remove_pod(&self) -> Verdict {
        if self.busy.contains(&Job::RemovePod) {
            return Verdict::Join;
        }
        match self.busy.contains(&Job::StopPod) {
            true => Verdict::After(Job::StopPod),
            false => Verdict::Begin,
        }
    }

    fn row(&self, id: &str) -> Option<&Container> {
        self.containers.iter().find(|row| row.id == id)
    }

    /// Why the pod takes nothing new, if it does not.
    fn takes_none(&self) -> Option<Fault> {
        let ending = [Job::StopPod, Job::RemovePod].iter().any(|job| self.busy.contains(job));
        let id = &self.pod.id;
        let state = match self.pod.phase() {
            PodPhase::Ready if ending => "is being stopped".to_owned(),
            PodPhase::Ready => return None,
            PodPhase::Starting => "is being started".to_owned(),
            PodPhase::Stopped if self.pod.reason.is_empty() => "is stopped".to_owned(),
            PodPhase::Stopped => format!("has ended: {}", self.pod.reason),
            PodPhase::Removing => "is being removed".to_owned(),
        };
        Some(Fault::FailedPrecondition(format!("pod sandbox {id} {state}")))
    }
}

fn missing(id: &str) -> Fault {
    Fault::NotFound(format!("no container {:?}", api::text::printable(id, 80)))
}

fn unfit(id: &str, doing: &str, phase: ContainerPhase) -> Fault {
    let state = match phase {
        ContainerPhase::Creating => "is being created",
        ContainerPhase::Created => "was not started",
        ContainerPhase::Running => "runs",
        ContainerPhase::Exited => "has ended",
        ContainerPhase::Removing => "is being removed",
    };
    Fault::FailedPrecondition(format!("container {id} can't be {doing}: it {state}"))
}

#[cfg(test)]
mod tests;
