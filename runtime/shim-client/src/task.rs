//! The Task service: a shim's containers and their processes. Both versions have the same messages.

use std::collections::BTreeMap;
use std::time::Duration;

use api::events::Exit;
use api::request::{CreateRequest, ExecRequest, Target};
use api::{ContainerId, ExecId};
use containerd_shim_protos::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse,
    DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest,
    PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest,
    StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, UpdateTaskRequest,
    WaitRequest, WaitResponse,
};
use protobuf::Message;

use crate::connection::Call;
use crate::convert;
use crate::error::Error;
use crate::limits::{ASK, WORK};
use crate::shim::Shim;
use crate::words::{Any, Connected, ProcessState};

/// What an exec's process is in JSON.
const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// What new limits are in JSON.
const RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

impl Shim {
    /// Creates a container and its init process; returns the process id that stands for it.
    /// `options` are the runtime's own.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], or what else the shim answered.
    pub async fn create(
        &self,
        request: &CreateRequest,
        options: Option<&Any>,
    ) -> Result<u32, Error> {
        let CreateRequest { id, bundle, rootfs, stdio } = request;
        let message = CreateTaskRequest {
            id: id.to_string(),
            bundle: bundle.display().to_string(),
            rootfs: rootfs.iter().map(convert::rpc_mount).collect(),
            terminal: stdio.terminal,
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            options: convert::rpc_option(options),
            ..CreateTaskRequest::default()
        };
        let doing = format!("creating container {:?}", id.as_str());
        let response: CreateTaskResponse = self.task("Create", &doing, WORK, &message).await?;
        Ok(response.pid)
    }

    /// Starts a process that was created; returns the process id that stands for it.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn start(&self, target: &Target) -> Result<u32, Error> {
        let (id, exec_id) = names(target);
        let message = StartRequest { id, exec_id, ..StartRequest::default() };
        let doing = of("starting", target);
        let response: StartResponse = self.task("Start", &doing, WORK, &message).await?;
        Ok(response.pid)
    }

    /// Creates another process in a container that runs.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], or what else the shim answered.
    pub async fn exec(&self, request: &ExecRequest) -> Result<(), Error> {
        let ExecRequest { target, process, stdio } = request;
        let (id, exec_id) = names(target);
        let message = ExecProcessRequest {
            id,
            exec_id,
            terminal: stdio.terminal,
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            spec: convert::rpc_json(PROCESS, process),
            ..ExecProcessRequest::default()
        };
        self.done("Exec", &of("creating", target), WORK, &message).await
    }

    /// Signals a process, or with `all` every process of its container.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has ended, or what else the shim answered.
    pub async fn kill(&self, target: &Target, signal: u32, all: bool) -> Result<(), Error> {
        let (id, exec_id) = names(target);
        let message = KillRequest { id, exec_id, signal, all, ..KillRequest::default() };
        self.done("Kill", &of("signalling", target), WORK, &message).await
    }

    /// Waits until a process has ended, without a limit. It can be asked for as soon as the process
    /// was created, by many, and again after its end until it is deleted.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn wait(&self, target: &Target) -> Result<Exit, Error> {
        let (id, exec_id) = names(target);
        let message = WaitRequest { id, exec_id, ..WaitRequest::default() };
        let doing = of("waiting for", target);
        let call = Call { service: self.version().service(), method: "Wait", doing: &doing };
        let response: WaitResponse = self.connection().call(call, &message, None).await?;
        Ok(convert::exit(response.exit_status, &response.exited_at))
    }

    /// Tells how a process is.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn state(&self, target: &Target) -> Result<ProcessState, Error> {
        let (id, exec_id) = names(target);
        let message = StateRequest { id, exec_id, ..StateRequest::default() };
        let doing = of("asking for the state of", target);
        let response: StateResponse = self.task("State", &doing, ASK, &message).await?;
        Ok(convert::state(response))
    }

    /// Tells the process ids of a container, as the shim sees them.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn pids(&self, id: &ContainerId) -> Result<Vec<u32>, Error> {
        let message = PidsRequest { id: id.to_string(), ..PidsRequest::default() };
        let doing = with("asking for the processes of", id);
        let response: PidsResponse = self.task("Pids", &doing, ASK, &message).await?;
        Ok(response.processes.iter().map(|process| process.pid).collect())
    }

    /// Lets all processes of a container stand still.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn pause(&self, id: &ContainerId) -> Result<(), Error> {
        let message = PauseRequest { id: id.to_string(), ..PauseRequest::default() };
        self.done("Pause", &with("pausing", id), WORK, &message).await
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn resume(&self, id: &ContainerId) -> Result<(), Error> {
        let message = ResumeRequest { id: id.to_string(), ..ResumeRequest::default() };
        self.done("Resume", &with("resuming", id), WORK, &message).await
    }

    /// Sets the size of a process's terminal: columns and rows.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn resize(&self, target: &Target, size: (u32, u32)) -> Result<(), Error> {
        let ((id, exec_id), (width, height)) = (names(target), size);
        let message = ResizePtyRequest { id, exec_id, width, height, ..Default::default() };
        self.done("ResizePty", &of("resizing the terminal of", target), ASK, &message).await
    }

    /// Ends a process's input once all that was written to it has been read.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn close_io(&self, target: &Target) -> Result<(), Error> {
        let (id, exec_id) = names(target);
        let message = CloseIORequest { id, exec_id, stdin: true, ..CloseIORequest::default() };
        self.done("CloseIO", &of("ending the input of", target), ASK, &message).await
    }

    /// Sets a container's limits: OCI's `LinuxResources`, and annotations that the runtime knows.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn update(
        &self,
        id: &ContainerId,
        resources: &serde_json::Value,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let message = UpdateTaskRequest {
            id: id.to_string(),
            resources: convert::rpc_json(RESOURCES, resources),
            annotations: annotations.into_iter().collect(),
            ..UpdateTaskRequest::default()
        };
        self.done("Update", &with("updating", id), WORK, &message).await
    }

    /// Tells what a container uses: `io.containerd.cgroups.v1.Metrics` or `….v2.Metrics`.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn stats(&self, id: &ContainerId) -> Result<Any, Error> {
        let message = StatsRequest { id: id.to_string(), ..StatsRequest::default() };
        let doing = with("reading the metrics of", id);
        let response: StatsResponse = self.task("Stats", &doing, ASK, &message).await?;
        Ok(convert::any(response.stats.into_option().unwrap_or_default()))
    }

    /// Removes a container or an exec that has ended, once its output is written; how it ended.
    /// All who write to the fifos of its output have closed them before.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn delete(&self, target: &Target) -> Result<Exit, Error> {
        let (id, exec_id) = names(target);
        let message = DeleteRequest { id, exec_id, ..DeleteRequest::default() };
        let doing = of("deleting", target);
        let response: DeleteResponse = self.task("Delete", &doing, WORK, &message).await?;
        Ok(convert::exit(response.exit_status, &response.exited_at))
    }

    /// Tells who serves a container. A shim answers this for containers that it does not have, too.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn connect(&self, id: &ContainerId) -> Result<Connected, Error> {
        let message = ConnectRequest { id: id.to_string(), ..ConnectRequest::default() };
        let doing = with("asking who serves", id);
        let response: ConnectResponse = self.task("Connect", &doing, ASK, &message).await?;
        let ConnectResponse { shim_pid, task_pid, version, .. } = response;
        Ok(Connected { shim_pid, task_pid, version })
    }

    /// Says that the shim is not needed any more for a container that was deleted. It ends if it
    /// has no other, or at once with `now`; then the answer or the connection's end means the same.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn shutdown(&self, id: &ContainerId, now: bool) -> Result<(), Error> {
        let message = ShutdownRequest { id: id.to_string(), now, ..ShutdownRequest::default() };
        match self.done("Shutdown", &with("ending the shim of", id), WORK, &message).await {
            Err(Error::Disconnected(_)) => Ok(()),
            answer => answer,
        }
    }

    async fn task<T: Message>(
        &self,
        method: &str,
        doing: &str,
        limit: Duration,
        message: &impl Message,
    ) -> Result<T, Error> {
        let call = Call { service: self.version().service(), method, doing };
        self.ask(limit, call, message).await
    }

    /// A call without anything in its answer.
    async fn done(
        &self,
        method: &str,
        doing: &str,
        limit: Duration,
        message: &impl Message,
    ) -> Result<(), Error> {
        self.task::<Empty>(method, doing, limit, message).await.map(drop)
    }
}

/// What is being done to a container, in words.
fn with(doing: &str, id: &ContainerId) -> String {
    format!("{doing} container {:?}", id.as_str())
}

/// What is being done to a process, in words.
fn of(doing: &str, target: &Target) -> String {
    match &target.exec {
        Some(exec) => {
            format!("{doing} exec {:?} of {:?}", exec.as_str(), target.container.as_str())
        }
        None => with(doing, &target.container),
    }
}

/// The names of a process in a request; an empty one means init.
fn names(target: &Target) -> (String, String) {
    let exec = target.exec.as_ref().map_or("", ExecId::as_str);
    (target.container.to_string(), exec.to_owned())
}
