//! Our own service of a shim (`cuddy.shim.v1`): what a daemon of ours asks for beyond containerd's
//! calls.

use std::collections::HashMap;

use api::request::StdioPaths;
use api::usage::Usage;
use api::{ContainerId, Error};
use async_trait::async_trait;
use protobuf::well_known_types::any::Any;
use protobuf::{EnumOrUnknown, MessageField};
use protocol::shim::{
    AttachRequest, AttachResponse, Census, Container, ListRequest, ListResponse, MetricsRequest,
    MetricsResponse, ReopenLogRequest, ReopenLogResponse, Status as RpcStatus, User,
};
use protocol::shim_ttrpc::Shim;
use sandbox::Sandbox;
use sandbox::container::Status;
use sandbox::sandbox::Listed;
use ttrpc::Result as RpcResult;
use ttrpc::r#async::TtrpcContext;

use crate::error::status;
use crate::{convert, metrics};

/// The service of one sandbox.
#[derive(Debug)]
pub(crate) struct OwnService {
    sandbox: Sandbox,
}

impl OwnService {
    /// Serves `sandbox`.
    pub(crate) fn new(sandbox: Sandbox) -> Self {
        Self { sandbox }
    }
}

#[async_trait]
impl Shim for OwnService {
    async fn list(&self, _: &TtrpcContext, _: ListRequest) -> RpcResult<ListResponse> {
        let listed = self.sandbox.list().await.map_err(status)?;
        let containers = listed.into_iter().map(container).collect();
        let reason = self.sandbox.end_reason().await.map_err(status)?.unwrap_or_default();
        Ok(ListResponse { containers, reason, ..ListResponse::default() })
    }

    async fn reopen_log(
        &self,
        _: &TtrpcContext,
        request: ReopenLogRequest,
    ) -> RpcResult<ReopenLogResponse> {
        let id = ContainerId::new(&request.id).map_err(status)?;
        self.sandbox.reopen_log(id).await.map_err(status)?;
        Ok(ReopenLogResponse::default())
    }

    async fn attach(&self, _: &TtrpcContext, request: AttachRequest) -> RpcResult<AttachResponse> {
        let id = ContainerId::new(&request.id).map_err(status)?;
        let (stdout, stderr) = (request.stdout, request.stderr);
        let paths = StdioPaths { stdout, stderr, ..StdioPaths::default() };
        self.sandbox.attach(id, paths).await.map_err(status)?;
        Ok(AttachResponse::default())
    }

    async fn metrics(&self, _: &TtrpcContext, _: MetricsRequest) -> RpcResult<MetricsResponse> {
        let listed = self.sandbox.list().await.map_err(status)?;
        let containers = listed.into_iter().filter(|listed| !listed.pod).map(|listed| async move {
            let usage = self.sandbox.stats(listed.id.clone()).await;
            (listed.id.to_string(), usage)
        });
        let pod = encoded("the pod", self.sandbox.pod_stats().await);
        let (mut told, mut counted) = (HashMap::new(), HashMap::new());
        for (id, usage) in futures::future::join_all(containers).await {
            if let Ok(usage) = &usage {
                counted.insert(id.clone(), census(&usage.census));
            }
            if let Some(any) = encoded(&id, usage) {
                told.insert(id, any);
            }
        }
        let pod = MessageField(pod.map(Box::new));
        let answer = MetricsResponse { pod, containers: told, ..MetricsResponse::default() };
        Ok(MetricsResponse { census: counted, ..answer })
    }
}

/// What is used, unless nobody knows: one container's failure must not hide the others.
fn encoded(of: &str, usage: Result<Usage, Error>) -> Option<Any> {
    let any = usage.and_then(|usage| {
        convert::any("io.containerd.cgroups.v2.Metrics", &metrics::metrics(&usage))
    });
    any.inspect_err(|error| log::debug!("metrics of {of}: {error}")).ok()
}

/// What an agent counted, in the service's words (pure).
fn census(of: &api::usage::Census) -> Census {
    Census {
        processes: of.processes,
        file_descriptors: of.file_descriptors,
        sockets: of.sockets,
        open_files_limit: of.open_files_limit,
        root_bytes: of.root_bytes,
        root_inodes: of.root_inodes,
        root_inodes_free: of.root_inodes_free,
        ..Census::default()
    }
}

/// A container as the service tells of it (pure).
fn container(listed: Listed) -> Container {
    let Listed { id, pod, init, out_of_memory, user } = listed;
    let (status, exit) = match init.status {
        Status::Created => (RpcStatus::STATUS_CREATED, None),
        Status::Running => (RpcStatus::STATUS_RUNNING, None),
        Status::Paused => (RpcStatus::STATUS_PAUSED, None),
        Status::Stopped(exit) => (RpcStatus::STATUS_STOPPED, Some(exit)),
    };
    Container {
        id: id.to_string(),
        status: EnumOrUnknown::new(status),
        pid: init.pid,
        bundle: init.bundle,
        created_at: convert::timestamp(init.created).into(),
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exit.and_then(|exit| convert::timestamp(exit.at)).into(),
        stdin: init.stdio.stdin,
        stdout: init.stdio.stdout,
        stderr: init.stdio.stderr,
        terminal: init.stdio.terminal,
        pod,
        out_of_memory,
        user: user.map(self::user).into(),
        ..Container::default()
    }
}

fn user(user: api::User) -> User {
    let api::User { uid, gid, groups } = user;
    User { uid, gid, groups, ..User::default() }
}
