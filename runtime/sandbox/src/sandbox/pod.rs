//! The pod itself, which callers see as a task: the sandbox container of containerd's podsandbox
//! controller and of CRI-O, or what the Sandbox service makes. No process stands behind it; it
//! runs as long as the machine, and killing it ends the machine.

use std::time::SystemTime;

use api::events::{EventKind, Exit};
use api::request::{CreateRequest, StdioPaths, Target};
use api::{ContainerId, Error};

use super::{Booted, Owner, Phase, Reply, Sandbox, Slot, answer, boot};
use crate::Pod;
use crate::container::{Container, ProcessState, Role};
use crate::pod::PodFile;
use crate::spec::namespaces::Holder;
use crate::stdio::{self, Streams};

/// Signals that end a pod: what a pause process does not ignore. As the first process of its
/// namespace it has the right to ignore the others.
const ENDING: [u32; 3] = [2, 9, 15];

impl Sandbox {
    /// Boots a machine for a pod that has no sandbox container, and keeps it until the pod is
    /// killed. The pod goes by its sandbox's name from then on, as a container would. Returns
    /// the machine's process id.
    ///
    /// # Errors
    /// As [`Sandbox::create`].
    pub async fn hold(&self, id: ContainerId, pod: Pod, files: Vec<PodFile>) -> Result<u32, Error> {
        let stdio = StdioPaths::default();
        let request = CreateRequest { id, bundle: "".into(), rootfs: Vec::new(), stdio };
        let role = Role::Pod { pid_namespace: pod.pid_namespace, quiet: true };
        self.ask(move |owner, reply| {
            // Who asks twice must not change the files of the pod that runs.
            let accepted = owner.accept_create(&request.id);
            if let Err(error) = accepted.and_then(|()| owner.write_files(&files)) {
                return answer(reply, Err(error));
            }
            owner.create_pod(request, role, pod, reply);
        })
        .await
    }

    /// Why the pod's machine is over, if it is: the machine's own end, in one line.
    ///
    /// # Errors
    /// The sandbox is gone.
    pub async fn end_reason(&self) -> Result<Option<String>, Error> {
        self.look(|owner| match &owner.phase {
            Phase::Ended { reason } => Ok(Some(reason.clone())),
            _ => Ok(None),
        })
        .await
    }
}

impl Owner {
    /// Makes the files of the pod, for containers to come.
    fn write_files(&mut self, files: &[PodFile]) -> Result<(), Error> {
        // Those of an attempt that has failed.
        self.files.clear();
        for file in files {
            let made = self.state.write_file(file.destination, &file.text);
            let path = made.map_err(|error| {
                Error::failed(&format!("making the pod's {}", file.destination), &error)
            })?;
            self.files.push((file.destination, path));
        }
        Ok(())
    }

    /// Boots the machine and takes note of the pod.
    pub(super) fn create_pod(
        &mut self,
        request: CreateRequest,
        role: Role,
        pod: Pod,
        reply: Reply<u32>,
    ) {
        let memory_limit = boot::memory_limit(&pod);
        let boot = match self.accept_create(&request.id).and_then(|()| self.boot(pod)) {
            Ok(boot) => boot,
            Err(error) => return answer(reply, Err(error)),
        };
        self.containers.insert(request.id.clone(), Slot::Reserved);
        let owner = self.stdio_owner(&request.id);
        let (stdio, stands_for) = (request.stdio.clone(), request.clone());
        let work = async move |booted: Booted| {
            let streams = Streams::silent(&stdio, &owner).await?;
            let pid = booted.live.machine.pid();
            let mut container = Container::new(role, &stands_for, pid, streams);
            container.memory_limit = memory_limit;
            Ok(container)
        };
        self.run_booted(boot, work, move |owner, outcome| {
            owner.pod_created(request, outcome, reply);
        });
    }

    fn pod_created(
        &mut self,
        request: CreateRequest,
        outcome: Result<Container, Error>,
        reply: Reply<u32>,
    ) {
        let id = request.id.clone();
        let container = match outcome.and_then(|made| self.still_up(made)) {
            // Nobody is left who could use it or end it.
            Ok(_) if reply.is_closed() => {
                self.containers.remove(&id);
                log::warn!("whoever asked for pod {id} has gone: its machine is ended");
                if self.is_empty() {
                    self.close();
                }
                return;
            }
            Ok(made) => made,
            Err(error) => {
                self.containers.remove(&id);
                log::error!("creating pod {id}: {error}");
                answer(reply, Err(error));
                return self.close_if_done();
            }
        };
        self.present(request, container, reply);
    }

    /// Whether the target is the pod.
    pub(super) fn is_pod(&self, target: &Target) -> bool {
        match self.containers.get(&target.container) {
            Some(Slot::Present(container)) => container.is_pod() && target.exec.is_none(),
            _ => false,
        }
    }

    pub(super) fn start_pod(&mut self, target: &Target) -> Result<u32, Error> {
        let container = self.container(&target.container)?;
        container.init.may_start(target.name())?;
        self.booted()?;
        let container = self.container(&target.container)?;
        container.init.state = ProcessState::Running;
        let pid = container.pid;
        self.publish(&target.container, EventKind::Started { pid });
        Ok(pid)
    }

    /// Ends the machine if the signal is one that ends.
    pub(super) fn kill_pod(&mut self, target: &Target, signal: u32) -> Result<(), Error> {
        self.container(&target.container)?.init.may_signal(target)?;
        if ENDING.contains(&signal) {
            self.stop_machine(128 + signal);
        }
        Ok(())
    }

    /// Whether any process of a container is in the guest.
    pub(super) fn runs_something(&self) -> bool {
        self.containers.values().any(|slot| match slot {
            Slot::Reserved => true,
            Slot::Present(container) => !container.is_pod() && container.init.is_running(),
        })
    }

    /// Every process is gone with the machine: tells so, of the pod last and with `status`.
    pub(super) fn end_containers(&mut self, status: u32) {
        let at = SystemTime::now();
        let pod = |(_, slot): &(&ContainerId, &Slot)| matches!(slot, Slot::Present(container) if container.is_pod());
        let (pods, others): (Vec<_>, Vec<_>) = self.containers.iter().partition(pod);
        let ids = |list: Vec<(&ContainerId, &Slot)>| -> Vec<ContainerId> {
            list.into_iter().map(|(id, _)| id.clone()).collect()
        };
        let (pods, others) = (ids(pods), ids(others));
        for id in others {
            self.end_all(&id, Exit { status: Exit::KILLED, at });
        }
        for id in pods {
            self.end_all(&id, Exit { status, at });
        }
    }

    /// Who has the process id `pid`, among those that callers were told.
    pub(super) fn holder(&self, pid: u32) -> Option<Holder> {
        let present = self.containers.iter().filter_map(|(id, slot)| match slot {
            Slot::Present(container) if container.pid == pid => Some((id, container.role)),
            _ => None,
        });
        let holder = |(id, role): (&ContainerId, Role)| match role {
            Role::Pod { pid_namespace, .. } => Holder::Pod { pid_namespace },
            Role::Guest => Holder::Container(id.clone()),
        };
        present.map(holder).next()
    }

    pub(super) fn stdio_owner(&self, id: &ContainerId) -> stdio::Owner {
        stdio::Owner { namespace: self.identity.namespace.clone(), container: id.clone() }
    }
}
