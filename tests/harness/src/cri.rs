//! A client of the container runtime interface (CRI, `runtime.v1`), as kubelet and crictl are. All
//! of it blocks.
//!
//! - [`Daemon`] is a containerd with the runtime's handlers.
//! - [`Cri`] talks to it.
//! - [`PodSpec`] and [`ContainerSpec`] say what to run.
//! - [`stream`] carries exec, attach and port-forward.
//! - [`log`] reads containers' logs.
//! - [`node`] is what most tests begin with.
//!
//! ```no_run
//! use harness::cri::{ContainerSpec, Daemon, PodSpec};
//! for programs in harness::containerd::versions() {
//!     let daemon = Daemon::new(&programs);
//!     let cri = daemon.cri();
//!     let pod = cri.run_pod(PodSpec::new("example"));
//!     let container = cri.start_new(&pod, ContainerSpec::shell("main", "exec sleep 1000"));
//!     assert_eq!(cri.exec_sync(&container, &["echo", "there"]).ok(), "there\n");
//!     cri.remove_pod(&pod);
//!     daemon.settled();
//! }
//! ```

mod cgroup;
mod cuddyd;
mod daemon;
pub mod log;
mod network;
pub mod node;
mod observe;
mod service;
mod spec;
pub mod stream;

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use api::image_service_client::ImageServiceClient;
use api::runtime_service_client::RuntimeServiceClient;

pub use cuddyd::{Cuddyd, Killer};
pub use daemon::{Controller, Daemon, PAUSE};
pub use network::{NETWORK_V4, NETWORK_V6, bridge, chain, template};
pub use service::SandboxService;
pub use spec::{ContainerSpec, PodSpec};

/// The messages and clients of `runtime.v1`, generated.
#[allow(
    missing_docs,
    missing_debug_implementations,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated"
)]
pub mod api {
    pub use protocol::cri::*;

    tonic::include_proto!("runtime.v1");
}

/// No call may take longer; kubelet's own limit for most is two minutes.
pub const CALL: Duration = Duration::from_secs(120);

/// A connection to a CRI server; clones share it. Usable from several threads.
#[derive(Debug, Clone)]
pub struct Cri {
    runtime: Arc<tokio::runtime::Runtime>,
    channel: Channel,
}

/// A pod that was run. It stays when the value is dropped; [`Daemon`]'s end removes all pods.
#[derive(Debug, Clone)]
pub struct Pod {
    /// The sandbox's id.
    pub id: String,
    /// What it was run with; containers are created with the same.
    pub config: api::PodSandboxConfig,
}

/// A container that was created.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Absolute path of its log file on the host.
    pub log: std::path::PathBuf,
}

/// What [`Cri::exec_sync`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Executed {
    /// Asserts exit code 0 and returns standard output.
    ///
    /// # Panics
    /// When the command failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }
}

/// A request with the usual time limit.
fn limited<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// The pod's cgroup below the hierarchy's root; empty if it has none of its own.
fn cgroup_of(config: &api::PodSandboxConfig) -> &str {
    config.linux.as_ref().map_or("", |linux| linux.cgroup_parent.as_str())
}

/// Unwraps an answer at the caller's line.
#[track_caller]
fn answer<T>(what: &str, result: Result<T, Status>) -> T {
    result.unwrap_or_else(|status| panic!("{what}: {:?}: {}", status.code(), status.message()))
}

impl Cri {
    /// Connects to the server's Unix socket when the first call is made.
    ///
    /// # Panics
    /// When the path can't be an address.
    pub fn connect(socket: &std::path::Path) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Self { runtime: Arc::new(runtime), channel }
    }

    /// The generated client of the runtime service, for what has no function here; see
    /// [`Self::wait`].
    pub fn runtime_service(&self) -> RuntimeServiceClient<Channel> {
        let client = RuntimeServiceClient::new(self.channel.clone());
        client.max_decoding_message_size(64 << 20)
    }

    /// The generated client of the image service.
    pub fn image_service(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    /// Waits for a call of a generated client: `cri.wait(cri.runtime_service().status(request))`.
    ///
    /// # Errors
    /// The server's.
    pub fn wait<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.wait_for(CALL, call)
    }

    /// [`Self::wait`] for as long as `limit`.
    ///
    /// # Errors
    /// The server's; DeadlineExceeded when it does not answer in time.
    pub fn wait_for<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        let limited = async { tokio::time::timeout(limit, call).await };
        match self.runtime.block_on(limited) {
            Ok(result) => result.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("the client's own limit")),
        }
    }

    /// All messages of a call that answers with a stream, to its end.
    ///
    /// # Errors
    /// The server's.
    pub fn collect<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<tonic::Streaming<T>>, Status>>,
    ) -> Result<Vec<T>, Status> {
        let mut stream = self.wait(call)?;
        let mut messages = Vec::new();
        let read = async {
            while let Some(message) = stream.message().await? {
                messages.push(message);
            }
            Ok(tonic::Response::new(()))
        };
        self.wait(read)?;
        Ok(messages)
    }

    /// RunPodSandbox.
    ///
    /// # Errors
    /// The server's.
    pub fn try_run_pod(&self, spec: PodSpec) -> Result<Pod, Status> {
        let PodSpec { config, handler } = spec;
        std::fs::create_dir_all(&config.log_directory).unwrap();
        cgroup::make(cgroup_of(&config));
        let request =
            api::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler };
        let mut service = self.runtime_service();
        let run = self.wait(service.run_pod_sandbox(limited(request, CALL)));
        match run {
            Ok(response) => Ok(Pod { id: response.pod_sandbox_id, config }),
            Err(failed) => Err(match self.give_up(&config) {
                Ok(()) => failed,
                // Why the pod did not start matters more.
                Err(left) => {
                    let both = format!("{}; {}", failed.message(), left.message());
                    Status::new(failed.code(), both)
                }
            }),
        }
    }

    /// Ends what a server has made of a pod that was not answered, as kubelet does, and removes the
    /// pod's cgroup.
    fn give_up(&self, config: &api::PodSandboxConfig) -> Result<(), Status> {
        let mut service = self.runtime_service();
        let listed = self.wait(service.list_pod_sandbox(api::ListPodSandboxRequest::default()))?;
        for pod in listed.items.into_iter().filter(|pod| pod.metadata == config.metadata) {
            self.try_remove_pod(&Pod { id: pod.id, config: config.clone() })?;
        }
        cgroup::remove(cgroup_of(config))
    }

    /// RunPodSandbox.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run_pod(&self, spec: PodSpec) -> Pod {
        answer("RunPodSandbox", self.try_run_pod(spec))
    }

    /// CreateContainer.
    ///
    /// # Errors
    /// The server's.
    pub fn try_create(&self, pod: &Pod, spec: ContainerSpec) -> Result<Container, Status> {
        let log = std::path::Path::new(&pod.config.log_directory).join(&spec.config.log_path);
        let request = api::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(spec.config),
            sandbox_config: Some(pod.config.clone()),
        };
        let mut service = self.runtime_service();
        let response = self.wait(service.create_container(limited(request, CALL)))?;
        Ok(Container { id: response.container_id, log })
    }

    /// CreateContainer.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn create(&self, pod: &Pod, spec: ContainerSpec) -> Container {
        answer("CreateContainer", self.try_create(pod, spec))
    }

    /// StartContainer.
    ///
    /// # Errors
    /// The server's.
    pub fn try_start(&self, container: &Container) -> Result<(), Status> {
        let request = api::StartContainerRequest { container_id: container.id.clone() };
        let mut service = self.runtime_service();
        self.wait(service.start_container(limited(request, CALL))).map(|_| ())
    }

    /// StartContainer.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn start(&self, container: &Container) {
        answer("StartContainer", self.try_start(container));
    }

    /// CreateContainer and StartContainer.
    ///
    /// # Panics
    /// When one fails.
    #[track_caller]
    pub fn start_new(&self, pod: &Pod, spec: ContainerSpec) -> Container {
        let container = self.create(pod, spec);
        self.start(&container);
        container
    }

    /// StopContainer: SIGTERM (or the image's signal), SIGKILL after `seconds`.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn stop(&self, container: &Container, seconds: i64) {
        let container_id = container.id.clone();
        let request = api::StopContainerRequest { container_id, timeout: seconds };
        let mut service = self.runtime_service();
        answer("StopContainer", self.wait(service.stop_container(limited(request, CALL))));
    }

    /// RemoveContainer.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn remove(&self, container: &Container) {
        let request = api::RemoveContainerRequest { container_id: container.id.clone() };
        let mut service = self.runtime_service();
        answer("RemoveContainer", self.wait(service.remove_container(limited(request, CALL))));
    }

    /// StopPodSandbox.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn stop_pod(&self, pod: &Pod) {
        let request = api::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        let mut service = self.runtime_service();
        answer("StopPodSandbox", self.wait(service.stop_pod_sandbox(limited(request, CALL))));
    }

    /// StopPodSandbox and RemovePodSandbox, as kubelet ends a pod, whose cgroup it removes then.
    ///
    /// # Errors
    /// The server's; Aborted when something stays in the cgroup.
    pub fn try_remove_pod(&self, pod: &Pod) -> Result<(), Status> {
        let mut service = self.runtime_service();
        let request = api::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.wait(service.stop_pod_sandbox(limited(request, CALL)))?;
        let request = api::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.wait(service.remove_pod_sandbox(limited(request, CALL)))?;
        cgroup::remove(cgroup_of(&pod.config))
    }

    /// [`Self::try_remove_pod`].
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn remove_pod(&self, pod: &Pod) {
        answer("StopPodSandbox, RemovePodSandbox", self.try_remove_pod(pod));
    }

    /// StopPodSandbox and RemovePodSandbox for every pod, as far as the first that fails.
    ///
    /// # Errors
    /// The server's.
    pub(crate) fn remove_all(&self) -> Result<(), Status> {
        let mut service = self.runtime_service();
        for id in self.pods() {
            let request = api::StopPodSandboxRequest { pod_sandbox_id: id.clone() };
            self.wait(service.stop_pod_sandbox(limited(request, CALL)))?;
            let request = api::RemovePodSandboxRequest { pod_sandbox_id: id };
            self.wait(service.remove_pod_sandbox(limited(request, CALL)))?;
        }
        Ok(())
    }

    /// All pods' ids, ready or not.
    ///
    /// # Panics
    /// When they can't be listed.
    pub fn pods(&self) -> Vec<String> {
        let mut service = self.runtime_service();
        let request = limited(api::ListPodSandboxRequest { filter: None }, CALL);
        let pods = answer("ListPodSandbox", self.wait(service.list_pod_sandbox(request)));
        pods.items.into_iter().map(|pod| pod.id).collect()
    }
}
