//! A pod, for everybody who asks something of it or tells what happened to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::cri::{ContainerConfig, LinuxContainerResources, PodSandboxConfig};
use tokio::sync::{mpsc, oneshot};

use super::fact::Fact;
use super::policy::{Job, Situation, Verdict};
use super::site::Site;
use crate::fault::Fault;

/// How an effect ended: the id of what it was about.
pub(crate) type Answer = Result<String, Fault>;

/// A container to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewContainer {
    /// What it shall be.
    pub(crate) config: ContainerConfig,
    /// The pod's configuration, as the caller repeats it.
    pub(crate) pod: PodSandboxConfig,
}

/// Limits of a container.
#[derive(Debug, Clone)]
pub(crate) struct NewLimits {
    /// The limits.
    pub(crate) resources: LinuxContainerResources,
    /// What else the caller says of them, for runtimes that know it.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Limits of a pod.
#[derive(Debug, Clone)]
pub(crate) struct PodLimits {
    /// Those of all its containers together.
    pub(crate) resources: Option<LinuxContainerResources>,
    /// What the machine itself may take beside them.
    pub(crate) overhead: Option<LinuxContainerResources>,
}

/// Something that a pod is asked to do.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// Make a container.
    Create(Box<NewContainer>),
    /// Start a container's process.
    Start(String),
    /// End a container's process by its signal, and by force after so long.
    Stop(String, Duration),
    /// Start a container's process again, if its policy still says so.
    Restart(String),
    /// Remove a container.
    Remove(String),
    /// Give a container other limits.
    Update(String, Box<NewLimits>),
    /// Give the pod other limits.
    Resize(Box<PodLimits>),
    /// Stop the pod.
    StopPod,
    /// Stop the pod if it ends with its containers, and the last one has ended.
    StopIdle,
    /// Remove the pod.
    RemovePod,
}

impl Ask {
    /// What is under way once it is begun.
    pub(super) fn job(&self) -> Job {
        match self {
            Self::Create(new) => {
                let metadata = new.config.metadata.clone().unwrap_or_default();
                Job::Create(metadata.name, metadata.attempt)
            }
            Self::Start(id) => Job::Start(id.clone()),
            Self::Stop(id, _) => Job::Stop(id.clone()),
            Self::Restart(id) => Job::Restart(id.clone()),
            Self::Remove(id) => Job::Remove(id.clone()),
            Self::Update(id, _) => Job::Update(id.clone()),
            Self::Resize(_) => Job::Resize,
            Self::StopPod | Self::StopIdle => Job::StopPod,
            Self::RemovePod => Job::RemovePod,
        }
    }

    /// What to do with it now.
    pub(super) fn verdict(&self, now: &Situation<'_>) -> Verdict {
        match self {
            Self::Create(new) => now.create(&new.config),
            Self::Start(id) => now.start(id),
            Self::Stop(id, _) => now.stop(id),
            Self::Restart(id) => now.restart(id),
            Self::Remove(id) => now.remove(id),
            Self::Update(id, _) => now.update(id),
            Self::Resize(_) => now.resize(),
            Self::StopPod => now.stop_pod(),
            Self::StopIdle => now.stop_idle(),
            Self::RemovePod => now.remove_pod(),
        }
    }
}

/// What an owner gets.
#[derive(Debug)]
pub(super) enum Message {
    /// It is asked for something.
    Ask(Ask, oneshot::Sender<Answer>),
    /// Something happened.
    Fact(Fact, oneshot::Sender<Result<(), Fault>>),
}

/// A pod, for everybody but its owner; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    /// What is fixed about it.
    pub(crate) site: Arc<Site>,
    /// Its owner's.
    pub(super) inbox: mpsc::Sender<Message>,
}

impl Pod {
    /// Whether its owner has ended: it was removed.
    pub(crate) fn is_over(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Asks for something and waits until it is done. Who stops waiting has not undone it.
    ///
    /// # Errors
    /// Why it was not done.
    pub(crate) async fn ask(&self, ask: Ask) -> Answer {
        let (reply, answer) = oneshot::channel();
        let gone = || Fault::NotFound(format!("pod sandbox {} is gone", self.site.id));
        self.inbox.send(Message::Ask(ask, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Tells what happened, and waits until it is on record.
    ///
    /// # Errors
    /// That it could not be written.
    pub(crate) async fn tell(&self, fact: Fact) -> Result<(), Fault> {
        let (reply, written) = oneshot::channel();
        let gone = || Fault::NotFound(format!("pod sandbox {} is gone", self.site.id));
        self.inbox.send(Message::Fact(fact, reply)).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }
}
