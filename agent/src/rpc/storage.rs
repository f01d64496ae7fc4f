//! Storage: devices that become filesystems, and filesystems without a device.

use std::sync::Arc;

use agent_api::storage::{
    AttachRequest, AttachResponse, DetachRequest, Directory as RpcDirectory, MountRequest,
    UnmountRequest,
};
use agent_api::storage_ttrpc::Storage;
use agent_api::types::Empty;
use async_trait::async_trait;
use tokio::sync::Mutex;
use ttrpc::r#async::TtrpcContext;

use super::{blocking, done};
use crate::storage::{Directory, Filesystem, Mounting, Window, attach, detach, mount, unmount};

/// The service.
#[derive(Debug, Default)]
pub(super) struct StorageService {
    /// Held while a shared mount point is looked at and mounted on.
    mounting: Arc<Mutex<()>>,
}

fn directories(asked: Vec<RpcDirectory>) -> Vec<Directory> {
    let directory =
        |RpcDirectory { path, mode, uid, gid, .. }| Directory { path, mode, owner: (uid, gid) };
    asked.into_iter().map(directory).collect()
}

#[async_trait]
impl Storage for StorageService {
    async fn attach(
        &self,
        _: &TtrpcContext,
        request: AttachRequest,
    ) -> ttrpc::Result<AttachResponse> {
        let disk = blocking(move || {
            let mounting = Mounting {
                point: request.mount_point,
                fstype: request.fstype,
                options: request.options,
                directories: directories(request.directories),
            };
            attach(Window::new(request.window)?, &mounting)
        })
        .await?;
        let (major, minor) = disk.numbers;
        Ok(AttachResponse { device: disk.node, major, minor, ..AttachResponse::default() })
    }

    async fn detach(&self, _: &TtrpcContext, request: DetachRequest) -> ttrpc::Result<Empty> {
        blocking(move || detach(Window::new(request.window)?, &request.mount_point)).await.map(done)
    }

    async fn mount(&self, _: &TtrpcContext, request: MountRequest) -> ttrpc::Result<Empty> {
        let one_at_a_time = Arc::clone(&self.mounting).lock_owned().await;
        let filesystem = Filesystem {
            point: request.mount_point,
            fstype: request.fstype,
            options: request.options,
            directories: directories(request.directories),
        };
        let work = move || {
            let mounted = mount(&filesystem);
            drop(one_at_a_time);
            mounted
        };
        blocking(work).await.map(done)
    }

    async fn unmount(&self, _: &TtrpcContext, request: UnmountRequest) -> ttrpc::Result<Empty> {
        blocking(move || unmount(&request.mount_point)).await.map(done)
    }
}
