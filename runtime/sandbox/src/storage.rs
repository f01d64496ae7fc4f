//! What containers see of the host's files: root filesystems, volumes, devices. The guest sees what
//! is mounted on the host through the shared directory. Disk images and block devices become disks
//! of the machine. Memory that a pod's containers share is memory of the guest.

mod devices;
mod disk;
mod disk_plan;
mod image_volumes;
mod join;
mod later_mounts;
mod layers;
mod memory;
mod plan;
mod pod_volumes;
mod volumes;

use std::path::Path;
use std::sync::Arc;

pub use self::disk_plan::DiskPlan;
pub use self::layers::{DiskPath, Join, Layers, Upper};
pub(crate) use self::memory::is_shared;
pub use self::plan::Plan;
pub(crate) use self::pod_volumes::Volumes;
use api::request::Mount;
use api::{ContainerId, Error};
use host::mounts::{Share, Tree};
use host::store::StateDir;
use machine::Live;
use machine::guest::GuestMount;

use crate::blocking::blocking;
use disk::Disk;
use later_mounts::Follower;
use pod_volumes::Place;

/// The part of a path that all of kubelet's `emptyDir` volumes have.
const EMPTY_DIR: &str = "/kubernetes.io~empty-dir/";

/// Whose storage it is, and where it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) container: &'a ContainerId,
    pub(crate) state: &'a StateDir,
    pub(crate) live: &'a Live,
    /// What several containers of the pod may have.
    pub(crate) volumes: &'a Arc<Volumes>,
    /// Whether the container shares the pod's memory at `/dev/shm`.
    pub(crate) shares_memory: bool,
}

/// A container's root filesystem, and all else that it sees of the host.
#[derive(Debug, Default)]
pub struct Rootfs {
    /// Where the root filesystem is in the guest.
    pub guest_path: String,
    disks: Vec<Disk>,
    /// Mount points in the guest of what lies over disks.
    mounted: Vec<String>,
    followers: Vec<Follower>,
    /// Volumes that other containers may have as well.
    places: Vec<Arc<Place>>,
}

impl Rootfs {
    /// Carries out a plan.
    ///
    /// # Errors
    /// [`Error::Failed`] or [`Error::Invalid`]; what was done on the host may be left to
    /// [`StateDir::destroy_container`].
    pub(crate) async fn prepare(plan: Plan, site: Site<'_>) -> Result<Self, Error> {
        let (state, share) = (site.state.clone(), site.live.share.clone());
        let (id, doing) = (site.container.clone(), "making the container's share");
        let make = move || {
            state.create_container(&id, &share).map_err(|error| Error::failed(doing, &error))
        };
        blocking(doing, make).await?;
        let mut rootfs = Self::default();
        match rootfs.carry_out(plan, &site).await {
            Ok(path) => {
                rootfs.guest_path = path;
                Ok(rootfs)
            }
            Err(error) => {
                rootfs.undo(site.live).await.unwrap_or_else(|left| log::warn!("{left}"));
                Err(error)
            }
        }
    }

    async fn carry_out(&mut self, plan: Plan, site: &Site<'_>) -> Result<String, Error> {
        let Site { container, state, .. } = site;
        match plan {
            Plan::Shared(mounts) => {
                let root = state.mount_point(container, Path::new("rootfs"), true);
                let root = root.map_err(|e| Error::failed("making the root's mount point", &e))?;
                let (scaffold, share) = (state.scaffold(), site.live.share.clone());
                let doing = format!("mounting the root filesystem of {container}");
                blocking(&doing, move || mount_all(&mounts, &root, &scaffold, &share)).await?;
                Ok(format!("{}/{container}/rootfs", agent_api::SHARE_DIR))
            }
            Plan::Disk(plan) => {
                let mount_point = format!("{}/disk/{container}", agent_api::STATE_DIR);
                let path = mount_point.clone();
                let mount = GuestMount { mount_point, ..GuestMount::default() };
                self.add_disk(&plan, mount, site).await?;
                Ok(path)
            }
            Plan::Layers(layers) => self.join(&layers, site).await,
        }
    }

    /// Takes it from the guest again; nothing that was written is lost.
    ///
    /// # Errors
    /// The guest does not let go of something: it may hold what is not written yet.
    pub(crate) async fn undo(mut self, live: &Live) -> Result<(), Error> {
        self.followers.clear();
        let mut undone = Ok(());
        for mounted in self.mounted.into_iter().rev() {
            undone = undone.and(live.guest.unmount(&mounted).await);
        }
        for disk in self.disks.into_iter().rev() {
            undone = undone.and(disk.release(live).await);
        }
        let hide = move || {
            self.places.clear();
            Ok(())
        };
        undone.and(blocking("hiding volumes", hide).await)
    }
}

/// Whether a path is that of one of kubelet's `emptyDir` volumes, or below it (pure).
fn is_empty_dir(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.contains(EMPTY_DIR))
}

fn mount_all(
    mounts: &[Mount],
    root: &Path,
    scaffold: &Path,
    share: &Arc<Share>,
) -> Result<(), Error> {
    for mount in mounts {
        let failed = |error: std::io::Error| {
            let target = match mount.target.as_str() {
                "" => String::new(),
                inside => format!(" at {inside:?}"),
            };
            let doing = format!("mounting {} {:?}{target}", mount.fstype, mount.source);
            Error::failed(&doing, &error)
        };
        let tree = Tree::mounted(mount, scaffold).map_err(failed)?;
        share.attach_inside(tree, root, &mount.target).map_err(failed)?;
    }
    Ok(())
}
/// Gives a guest a disk for good.
#[cfg(test)]
pub(crate) async fn attach_disk(file: std::fs::File, read_only: bool, live: &Live) {
    Disk::attach(file, read_only, &GuestMount::default(), live).await.unwrap();
}
