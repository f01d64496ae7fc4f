//! Process: init and execs of containers.

mod exec;
mod signal;
mod start;

use std::sync::Arc;

use agent_api::process::{
    ExecRequest, ListResponse, ListedProcess, ResizePtyRequest, SignalRequest, WaitResponse,
};
use agent_api::process_ttrpc::Process;
use agent_api::types::{ContainerId, Empty, ProcessCreated, ProcessId};
use async_trait::async_trait;
use ttrpc::r#async::TtrpcContext;

use super::{done, status, to_the_end};
use crate::error::{Error, Result};
use crate::process::Process as Known;
use crate::sandbox::Sandbox;

/// The service.
#[derive(Debug)]
pub(super) struct ProcessService(pub(super) Arc<Sandbox>);

impl ProcessService {
    fn find(&self, container_id: &str, exec_id: &str) -> Result<Arc<Known>> {
        self.0.container(container_id)?.process(exec_id)
    }
}

#[async_trait]
impl Process for ProcessService {
    async fn exec(&self, _: &TtrpcContext, request: ExecRequest) -> ttrpc::Result<Empty> {
        exec::run(&self.0, request).map_err(status::of).map(done)
    }

    async fn start(&self, _: &TtrpcContext, request: ProcessId) -> ttrpc::Result<ProcessCreated> {
        to_the_end(start::run(Arc::clone(&self.0), request)).await
    }

    async fn signal(&self, _: &TtrpcContext, request: SignalRequest) -> ttrpc::Result<Empty> {
        signal::run(&self.0, &request).map_err(status::of).map(done)
    }

    async fn wait(&self, _: &TtrpcContext, request: ProcessId) -> ttrpc::Result<WaitResponse> {
        let process = self.find(&request.container_id, &request.exec_id).map_err(status::of)?;
        let exit = process.wait().await;
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at_unix_ns: exit.at_unix_ns,
            ..WaitResponse::default()
        })
    }

    async fn resize_pty(
        &self,
        _: &TtrpcContext,
        request: ResizePtyRequest,
    ) -> ttrpc::Result<Empty> {
        let size = |characters: u32| {
            u16::try_from(characters).map_err(|_| Error::Invalid("terminal too large".to_owned()))
        };
        let resize = || {
            let process = self.find(&request.container_id, &request.exec_id)?;
            process.resize(size(request.columns)?, size(request.rows)?)
        };
        resize().map_err(status::of).map(done)
    }

    async fn list(&self, _: &TtrpcContext, request: ContainerId) -> ttrpc::Result<ListResponse> {
        let container = self.0.container(&request.container_id).map_err(status::of)?;
        let listed = |(pid, exec_id): (i32, String)| ListedProcess {
            pid: pid.unsigned_abs(),
            exec_id,
            ..ListedProcess::default()
        };
        let processes = container.list().into_iter().map(listed).collect();
        Ok(ListResponse { processes, ..ListResponse::default() })
    }

    async fn delete(&self, _: &TtrpcContext, request: ProcessId) -> ttrpc::Result<Empty> {
        let delete = || {
            if request.exec_id.is_empty() {
                return Err(Error::Invalid("init is deleted with its container".to_owned()));
            }
            self.0.container(&request.container_id)?.delete_exec(&request.exec_id)
        };
        delete().map_err(status::of).map(done)
    }
}
