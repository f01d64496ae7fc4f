//! The Task service: every call of containerd's, in terms of the sandbox. All answers come with
//! gRPC codes from the table in `error`. No call is left to the library's default, which would say
//! "not found" and mean "not implemented".

use api::request::{ExecRequest, StdioPaths};
use api::{ContainerId, Error, ExecId, SandboxId};
use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::shim_async::Task;
use protobuf::MessageField;
use sandbox::Sandbox;
use sandbox::sandbox::Shutdown;
use ttrpc::Result as RpcResult;
use ttrpc::r#async::TtrpcContext;

use crate::convert::{self, target};
use crate::error::status;
use crate::metrics;

/// The Task service of one sandbox, for versions 2 and 3.
#[derive(Debug)]
pub(crate) struct TaskService {
    sandbox: Sandbox,
    id: SandboxId,
}

impl TaskService {
    /// Serves `sandbox`, whose name is `id`.
    pub(crate) fn new(sandbox: Sandbox, id: SandboxId) -> Self {
        Self { sandbox, id }
    }
}

fn container(id: &str) -> RpcResult<ContainerId> {
    ContainerId::new(id).map_err(status)
}

#[async_trait]
impl Task for TaskService {
    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> RpcResult<StateResponse> {
        let target = target(&request.id, &request.exec_id).map_err(status)?;
        let view = self.sandbox.view(target.clone()).await.map_err(status)?;
        Ok(convert::state(&target, view))
    }

    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> RpcResult<CreateTaskResponse> {
        let request = convert::create(request).map_err(status)?;
        let pid = self.sandbox.create(request).await.map_err(status)?;
        Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> RpcResult<StartResponse> {
        let target = target(&request.id, &request.exec_id).map_err(status)?;
        let pid = self.sandbox.start_process(target).await.map_err(status)?;
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> RpcResult<DeleteResponse> {
        let target = target(&request.id, &request.exec_id).map_err(status)?;
        let (pid, exit) = self.sandbox.delete(target).await.map_err(status)?;
        Ok(DeleteResponse {
            pid,
            exit_status: exit.status,
            exited_at: convert::timestamp(exit.at).into(),
            ..DeleteResponse::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> RpcResult<PidsResponse> {
        let pids = self.sandbox.pids(container(&request.id)?).await.map_err(status)?;
        let processes = pids.into_iter().map(process_info).collect::<Result<_, _>>();
        let processes = processes.map_err(status)?;
        Ok(PidsResponse { processes, ..PidsResponse::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> RpcResult<Empty> {
        self.sandbox.pause(container(&request.id)?, true).await.map_err(status)?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> RpcResult<Empty> {
        self.sandbox.pause(container(&request.id)?, false).await.map_err(status)?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> RpcResult<Empty> {
        Err(status(Error::Unimplemented("checkpointing a machine")))
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> RpcResult<Empty> {
        let target = target(&request.id, &request.exec_id).map_err(status)?;
        self.sandbox.kill(target, request.signal, request.all).await.map_err(status)?;
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> RpcResult<Empty> {
        let process = convert::json(&request.spec, "the process to execute").map_err(status)?;
        let request = ExecRequest {
            target: target(&request.id, &request.exec_id).map_err(status)?,
            process,
            stdio: StdioPaths {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            },
        };
        self.sandbox.exec(request).await.map_err(status)?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> RpcResult<Empty> {
        let target = target(&request.id, &request.exec_id).map_err(status)?;
        let size = (request.width, request.height);
        self.sandbox.resize(target, size).await.map_err(status)?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> RpcResult<Empty> {
        let target = target(&request.id, &request.exec_id).map_err(status)?;
        if request.stdin {
            self.sandbox.close_input(target).await.map_err(status)?;
        }
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> RpcResult<Empty> {
        let resources = convert::json(&request.resources, "the resources").map_err(status)?;
        self.sandbox.update(container(&request.id)?, resources).await.map_err(status)?;
        Ok(Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> RpcResult<WaitResponse> {
        let target = target(&request.id, &request.exec_id).map_err(status)?;
        let exit = self.sandbox.wait(target).await.map_err(status)?;
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: convert::timestamp(exit.at).into(),
            ..WaitResponse::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> RpcResult<StatsResponse> {
        let usage = self.sandbox.stats(container(&request.id)?).await.map_err(status)?;
        let metrics = metrics::metrics(&usage);
        let any = convert::any("io.containerd.cgroups.v2.Metrics", &metrics).map_err(status)?;
        Ok(StatsResponse { stats: MessageField::some(any), ..StatsResponse::default() })
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: ConnectRequest,
    ) -> RpcResult<ConnectResponse> {
        // Answered in any case: it is how containerd finds out whether the shim lives.
        let task_pid = match target(&request.id, "") {
            Ok(target) => self.sandbox.view(target).await.map_or(0, |view| view.pid),
            Err(_) => 0,
        };
        let shim_pid = std::process::id();
        Ok(ConnectResponse { shim_pid, task_pid, ..ConnectResponse::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> RpcResult<Empty> {
        let wish = if request.now {
            Shutdown::Now
        } else if request.id.is_empty() || request.id == self.id.as_str() {
            // Containerd 2.0 to 2.3 say it once, for the sandbox, which may not be the last.
            Shutdown::WhenEmpty
        } else {
            Shutdown::IfEmpty
        };
        if self.sandbox.shutdown(wish).await.map_err(status)? {
            // Whoever asked may clean up by force once it is answered.
            self.sandbox.closed().await;
        }
        Ok(Empty::new())
    }
}

fn process_info((pid, exec): (u32, Option<ExecId>)) -> Result<ProcessInfo, Error> {
    let mut info = ProcessInfo { pid, ..ProcessInfo::default() };
    if let Some(exec) = exec {
        let exec_id = exec.to_string();
        let details = ProcessDetails { exec_id, ..ProcessDetails::default() };
        info.info =
            MessageField::some(convert::any("containerd.runc.v1.ProcessDetails", &details)?);
    }
    Ok(info)
}
