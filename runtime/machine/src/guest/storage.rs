//! Calls to the agent about disks and filesystems.

use agent_api::storage;
use agent_api::storage_ttrpc::StorageClient;
use api::Error;
use ttrpc::context::Context;
use vmm_api::Window;

use super::{Guest, WORK};
use crate::text::guest_text;

/// Longest path of a device node that a guest may name; kernels of today take far fewer bytes.
const MAX_NODE: usize = 64;

/// A filesystem to mount in the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestMount {
    /// Directory in the guest; empty for a disk that is not mounted.
    pub mount_point: String,
    /// Filesystem type.
    pub fstype: String,
    /// mount(8) options.
    pub options: Vec<String>,
    /// Directories to make in it.
    pub directories: Vec<GuestDirectory>,
}

/// A directory to make in a filesystem of the guest where nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestDirectory {
    /// Relative to the mount point.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// A disk as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestDisk {
    /// Its node, for instance `/dev/vdb`.
    pub node: String,
    /// Its major and minor number.
    pub numbers: (u32, u32),
}

impl Guest {
    /// Brings the disk in `window` to life and mounts it if asked to.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn attach(&self, window: Window, mount: &GuestMount) -> Result<GuestDisk, Error> {
        let request = storage::AttachRequest {
            window: window.index().into(),
            mount_point: mount.mount_point.clone(),
            fstype: mount.fstype.clone(),
            options: mount.options.clone(),
            directories: directories(mount),
            ..Default::default()
        };
        let client = StorageClient::new(self.client.clone());
        let call = client.attach(Context::default(), &request);
        let disk = self.call(WORK, "attaching a disk in the guest", call).await?;
        if !is_node(&disk.device) {
            let node = guest_text(&disk.device);
            let text = format!("attaching a disk in the guest: it names no device node: {node}");
            return Err(Error::Failed(text));
        }
        Ok(GuestDisk { node: disk.device, numbers: (disk.major, disk.minor) })
    }

    /// Unmounts, flushes and lets go of the disk in `window`.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn detach(&self, window: Window, mount_point: &str) -> Result<(), Error> {
        let request = storage::DetachRequest {
            window: window.index().into(),
            mount_point: mount_point.to_owned(),
            ..Default::default()
        };
        let client = StorageClient::new(self.client.clone());
        let call = client.detach(Context::default(), &request);
        self.call(WORK, "detaching a disk in the guest", call).await.map(drop)
    }

    /// Mounts a filesystem without a disk; one that is mounted there already stays.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn mount(&self, mount: &GuestMount) -> Result<(), Error> {
        let request = storage::MountRequest {
            mount_point: mount.mount_point.clone(),
            fstype: mount.fstype.clone(),
            options: mount.options.clone(),
            directories: directories(mount),
            ..Default::default()
        };
        let client = StorageClient::new(self.client.clone());
        let call = client.mount(Context::default(), &request);
        self.call(WORK, "mounting in the guest", call).await.map(drop)
    }

    /// Unmounts what [`Self::mount`] made.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn unmount(&self, mount_point: &str) -> Result<(), Error> {
        let mount_point = mount_point.to_owned();
        let request = storage::UnmountRequest { mount_point, ..Default::default() };
        let client = StorageClient::new(self.client.clone());
        let call = client.unmount(Context::default(), &request);
        self.call(WORK, "unmounting in the guest", call).await.map(drop)
    }
}

fn directories(mount: &GuestMount) -> Vec<storage::Directory> {
    let directory = |directory: &GuestDirectory| storage::Directory {
        path: directory.path.clone(),
        mode: directory.mode,
        uid: directory.owner.0,
        gid: directory.owner.1,
        ..Default::default()
    };
    mount.directories.iter().map(directory).collect()
}

/// Whether a guest's word is the path of a device node; it is kept, and goes into configurations.
fn is_node(path: &str) -> bool {
    path.starts_with("/dev/")
        && path.len() <= MAX_NODE
        && path.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_path_below_dev_is_a_node() {
        assert!(is_node("/dev/vdb"));
        let long = format!("/dev/{}", "v".repeat(MAX_NODE));
        for path in ["", "vdb", "/etc/passwd", "/dev/v\n", &long] {
            assert!(!is_node(path), "{path}");
        }
    }
}
