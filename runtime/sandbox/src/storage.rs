//! What containers see of the host's files: root filesystems, volumes, devices. What is mounted
//! on the host is seen through the shared directory; disk images and block devices become disks
//! of the machine; memory that a pod's containers share is memory of the guest.

mod devices;
mod disk;
mod follow;
mod join;
mod layers;
mod memory;
mod plan;
mod volumes;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

pub use self::layers::{DiskPath, Join, Layers, Upper};
pub use self::plan::{DiskPlan, Plan};
use crate::events::Mount;
use crate::guest::GuestMount;
use crate::mounts;
use crate::sandbox::Booted;
use crate::store::StateDir;
use crate::{ContainerId, Error};
use disk::Disk;
use follow::Follower;

/// Offset and value of the EROFS superblock's magic number (kernel's `fs/erofs/erofs_fs.h`).
const EROFS_MAGIC: (u64, [u8; 4]) = (1024, [0xe2, 0xe1, 0xf5, 0xe0]);

/// Whose storage it is, and where it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) container: &'a ContainerId,
    pub(crate) state: &'a StateDir,
    pub(crate) booted: &'a Booted,
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
}

impl Rootfs {
    /// Carries out a plan.
    ///
    /// # Errors
    /// [`Error::Failed`] or [`Error::Invalid`]; what was done on the host may be left to
    /// [`StateDir::destroy_container`].
    pub(crate) async fn prepare(plan: Plan, site: Site<'_>) -> Result<Self, Error> {
        let mut rootfs = Self::default();
        match rootfs.carry_out(plan, &site).await {
            Ok(path) => {
                rootfs.guest_path = path;
                Ok(rootfs)
            }
            Err(error) => {
                rootfs.undo(site.booted).await.unwrap_or_else(|left| log::warn!("{left}"));
                Err(error)
            }
        }
    }

    async fn carry_out(&mut self, plan: Plan, site: &Site<'_>) -> Result<String, Error> {
        let Site { container, state, .. } = site;
        match plan {
            Plan::Shared(mounts) => {
                let root = mount_point(state, container, Path::new("rootfs"), true)?;
                mount_all(&mounts, &root, &state.stage())?;
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
    pub(crate) async fn undo(mut self, booted: &Booted) -> Result<(), Error> {
        self.followers.clear();
        let mut undone = Ok(());
        for mounted in self.mounted.into_iter().rev() {
            undone = undone.and(booted.guest.unmount(&mounted).await);
        }
        for disk in self.disks.into_iter().rev() {
            undone = undone.and(disk.release(booted).await);
        }
        undone
    }
}

fn mount_all(mounts: &[Mount], root: &Path, stage: &Path) -> Result<(), Error> {
    for mount in mounts {
        let doing = || format!("mounting {} {:?}", mount.fstype, mount.source);
        let target = Place::below(root, &mount.target)?;
        mounts::mount(mount, &target.path, stage)
            .map_err(|error| Error::failed(&doing(), &error))?;
    }
    Ok(())
}

fn mount_point(
    state: &StateDir,
    container: &ContainerId,
    name: &Path,
    directory: bool,
) -> Result<PathBuf, Error> {
    state.mount_point(container, name, directory).map_err(|error| {
        let path = state.container(container).join(name);
        Error::failed(&format!("making {}", path.display()), &error)
    })
}

/// Where a mount of a root filesystem goes.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// What the path leads through.
    _directory: Option<OwnedFd>,
}

impl Place {
    /// A place below `root`. The attack: an image with a link there to a directory of the host.
    fn below(root: &Path, target: &str) -> Result<Self, Error> {
        if target.is_empty() {
            return Ok(Self { path: root.to_owned(), _directory: None });
        }
        let find = || -> rustix::io::Result<OwnedFd> {
            let root = rustix::fs::open(root, PLACE | OFlags::DIRECTORY, Mode::empty())?;
            let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            openat2(root, target, PLACE, Mode::empty(), inside)
        };
        let place = find().map_err(|error| {
            Error::Invalid(format!("mount target {target:?} of the root filesystem: {error}"))
        })?;
        let path = format!("/proc/self/fd/{}", place.as_raw_fd()).into();
        Ok(Self { path, _directory: Some(place) })
    }
}

const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Refuses a root image that is no EROFS: the guest would panic over it, with a worse message.
///
/// # Errors
/// [`Error::Invalid`] with its name.
pub fn check_erofs(image: &File, path: &Path) -> Result<(), Error> {
    let mut magic = [0; 4];
    let read = image.read_exact_at(&mut magic, EROFS_MAGIC.0);
    if read.is_err() || magic != EROFS_MAGIC.1 {
        let path = path.display();
        return Err(Error::Invalid(format!("the guest root image {path} is not an EROFS image")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_an_image_lead_no_mount_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["host", "root", "root/host"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::os::unix::fs::symlink("../../../host", path("root/up")).unwrap();
        std::os::unix::fs::symlink(path("host"), path("root/absolute")).unwrap();
        let inside = path("root/host").canonicalize().unwrap();
        for target in ["host", "/host", "up", "../host"] {
            let place = Place::below(&path("root"), target).unwrap();
            assert_eq!(place.path.canonicalize().unwrap(), inside, "{target}");
        }
        let error = Place::below(&path("root"), "absolute").unwrap_err().to_string();
        assert!(error.contains("\"absolute\""), "{error}");
        assert_eq!(Place::below(&path("root"), "").unwrap().path, path("root"));
    }

    #[test]
    fn image_without_the_magic_is_refused_by_name() {
        let file = tempfile::tempfile().unwrap();
        let error = check_erofs(&file, Path::new("/x.erofs")).unwrap_err().to_string();
        assert!(error.contains("/x.erofs") && error.contains("EROFS"), "{error}");
        file.write_all_at(&EROFS_MAGIC.1, EROFS_MAGIC.0).unwrap();
        assert!(check_erofs(&file, Path::new("/x.erofs")).is_ok());
    }
}
