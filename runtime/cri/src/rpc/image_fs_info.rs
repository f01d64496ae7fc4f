//! ImageFsInfo: what the images take of the disk.

use std::sync::Arc;

use protocol::cri::{
    FilesystemIdentifier, FilesystemUsage, ImageFsInfoRequest, ImageFsInfoResponse, UInt64Value,
};
use tonic::Request;

use crate::clock;
use crate::fault::Fault;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    _: Request<ImageFsInfoRequest>,
) -> Result<ImageFsInfoResponse, Fault> {
    let usage = pods.node.images.store.usage();
    let usage = FilesystemUsage {
        timestamp: clock::nanos(usage.at),
        fs_id: Some(FilesystemIdentifier { mountpoint: usage.directory.display().to_string() }),
        used_bytes: Some(UInt64Value { value: usage.bytes }),
        inodes_used: Some(UInt64Value { value: usage.inodes }),
    };
    Ok(ImageFsInfoResponse {
        image_filesystems: vec![usage.clone()],
        container_filesystems: vec![usage],
    })
}
