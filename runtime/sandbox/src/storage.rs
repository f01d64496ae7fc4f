//! A container's root filesystem: what the caller's mounts make of it on the host, and where it
//! is in the guest. What is mounted on the host is seen through the shared directory; a disk
//! image or block device becomes a disk of the machine.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use vmm_api::{BlockConfig, DeviceConfig, FdSlot, Window};

use crate::events::Mount;
use crate::guest::DiskMount;
use crate::mounts::{self, Options};
use crate::sandbox::Booted;
use crate::spec::Bind;
use crate::store::StateDir;
use crate::{ContainerId, Error};

/// Offset and value of the EROFS superblock's magic number (kernel's `fs/erofs/erofs_fs.h`).
const EROFS_MAGIC: (u64, [u8; 4]) = (1024, [0xe2, 0xe1, 0xf5, 0xe0]);

/// How a root filesystem is given to the guest (pure).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Mounted on the host, one over the other, and shared.
    Shared(Vec<Mount>),
    /// A disk with a filesystem.
    Disk {
        /// The image file or block device.
        source: PathBuf,
        /// How the guest mounts it.
        fstype: String,
        /// mount(8) options for the guest.
        options: Vec<String>,
        /// Whether nothing may be written.
        read_only: bool,
    },
}

/// Filesystems that the host mounts for the guest.
const SHARED: [&str; 2] = ["overlay", "bind"];

/// Filesystems that the guest mounts from a disk.
const DISKS: [&str; 3] = ["ext4", "xfs", "erofs"];

impl Plan {
    /// Sorts the caller's mounts. Without any, the configuration's own root directory counts.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the name of a type that can't be given to a guest.
    pub fn new(given: &[Mount], root: &Path) -> Result<Self, Error> {
        let unknown = given.iter().find(|mount| {
            let fstype = mount.fstype.as_str();
            !(SHARED.contains(&fstype) || DISKS.contains(&fstype) && given.len() == 1)
        });
        if let Some(mount) = unknown {
            return Err(Error::Invalid(format!(
                "root filesystem mount of type {:?} ({} of {}) is not supported: overlay and bind, \
                 or one ext4, xfs or erofs disk are",
                mount.fstype,
                given.iter().take_while(|other| *other != mount).count() + 1,
                given.len(),
            )));
        }
        match given {
            [] => Ok(Self::Shared(vec![Mount {
                fstype: "bind".into(),
                source: root.to_string_lossy().into_owned(),
                options: vec!["rbind".into()],
                ..Mount::default()
            }])),
            [disk] if DISKS.contains(&disk.fstype.as_str()) => Ok(Self::disk(disk)),
            mounts => Ok(Self::Shared(mounts.to_vec())),
        }
    }

    /// Whether the guest keeps in its memory what is still to be written to the host's storage.
    /// What it writes to a shared directory is there at once.
    pub(crate) fn is_written_by_guest(&self) -> bool {
        matches!(self, Self::Disk { read_only: false, .. })
    }

    fn disk(mount: &Mount) -> Self {
        let read_only = mount.fstype == "erofs" || mount.options.iter().any(|o| o == "ro");
        let host_only = |option: &&String| {
            matches!(option.as_str(), "loop" | "ro" | "rw" | "bind" | "rbind")
                || option.starts_with("X-containerd.")
        };
        let mut options: Vec<String> =
            mount.options.iter().filter(|option| !host_only(option)).cloned().collect();
        if read_only {
            options.push("ro".into());
        }
        let source = PathBuf::from(&mount.source);
        Self::Disk { source, fstype: mount.fstype.clone(), options, read_only }
    }
}

/// A root filesystem that the guest can see.
#[derive(Debug)]
pub struct Rootfs {
    /// Where it is in the guest.
    pub guest_path: String,
    disk: Option<Window>,
}

impl Rootfs {
    /// Carries out a plan for `container`.
    ///
    /// # Errors
    /// [`Error::Failed`] or [`Error::Invalid`]; what was done may be left to
    /// [`StateDir::destroy_container`].
    pub(crate) async fn prepare(
        plan: Plan,
        container: &ContainerId,
        state: &StateDir,
        booted: &Booted,
    ) -> Result<Self, Error> {
        match plan {
            Plan::Shared(mounts) => {
                let root = mount_point(state, container, Path::new("rootfs"), true)?;
                mount_all(&mounts, &root, &state.stage())?;
                let guest_path = format!("{}/{container}/rootfs", agent_api::SHARE_DIR);
                Ok(Self { guest_path, disk: None })
            }
            Plan::Disk { source, fstype, options, read_only } => {
                let guest_path = format!("{}/disk/{container}", agent_api::STATE_DIR);
                let image = open_disk(&source, read_only)?;
                let device = BlockConfig::new(FdSlot(0), read_only, "")
                    .map_err(|error| Error::Invalid(error.to_string()))?;
                let device = DeviceConfig::Block(device);
                let window = booted.machine.attach(device, vec![image]).await?;
                let mount = DiskMount { mount_point: guest_path.clone(), fstype, options };
                if let Err(error) = booted.guest.attach(window, &mount).await {
                    let released = release(window, &guest_path, booted).await;
                    released.unwrap_or_else(|left| log::warn!("{left}"));
                    return Err(error);
                }
                Ok(Self { guest_path, disk: Some(window) })
            }
        }
    }

    /// Takes it from the guest again; nothing that was written is lost.
    ///
    /// # Errors
    /// The guest does not let go of it: it may hold what is not written yet.
    pub(crate) async fn undo(self, booted: &Booted) -> Result<(), Error> {
        match self.disk {
            Some(window) => release(window, &self.guest_path, booted).await,
            None => Ok(()),
        }
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

async fn release(window: Window, mount_point: &str, booted: &Booted) -> Result<(), Error> {
    // While the guest may still use it, its window stays taken.
    booted.guest.detach(window, mount_point).await?;
    booted.machine.detach(window).await
}

/// Shows the host's files and directories that a container binds.
///
/// # Errors
/// [`Error::Invalid`] when one does not exist; [`Error::Failed`] otherwise.
pub fn bind_all(binds: &[Bind], container: &ContainerId, state: &StateDir) -> Result<(), Error> {
    for (index, bind) in binds.iter().enumerate() {
        let doing = || format!("bind mount of {}", bind.source.display());
        let source = std::fs::metadata(&bind.source)
            .map_err(|error| Error::Invalid(format!("{}: {error}", doing())))?;
        let name = Path::new("mounts").join(index.to_string());
        let target = mount_point(state, container, &name, source.is_dir())?;
        let mut options = Options::parse(&[]);
        options.recursive = bind.recursive;
        options.flags.set(rustix::mount::MountFlags::RDONLY, bind.read_only);
        mounts::bind(&bind.source, &target, &options, &state.stage())
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

fn open_disk(source: &Path, read_only: bool) -> Result<OwnedFd, Error> {
    let file = OpenOptions::new().read(true).write(!read_only).open(source);
    file.map(OwnedFd::from)
        .map_err(|error| Error::Invalid(format!("opening disk {}: {error}", source.display())))
}

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

    fn mount(fstype: &str, options: &[&str]) -> Mount {
        Mount {
            fstype: fstype.into(),
            source: "/src".into(),
            options: options.iter().map(|&o| o.to_owned()).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn overlay_and_bind_are_mounted_on_the_host() {
        let overlay = [mount("overlay", &["lowerdir=/a"])];
        assert_eq!(Plan::new(&overlay, Path::new("/r")).unwrap(), Plan::Shared(overlay.to_vec()));
    }

    #[test]
    fn without_mounts_the_configured_root_is_shared() {
        let Plan::Shared(mounts) = Plan::new(&[], Path::new("/r")).unwrap() else { panic!() };
        assert_eq!((mounts[0].source.as_str(), mounts[0].fstype.as_str()), ("/r", "bind"));
    }

    #[test]
    fn image_becomes_a_disk_without_the_hosts_options() {
        let given = [mount("ext4", &["loop", "rw", "noatime", "X-containerd.mkfs.fs=ext4"])];
        let plan = Plan::new(&given, Path::new("/r")).unwrap();
        let expected = Plan::Disk {
            source: "/src".into(),
            fstype: "ext4".into(),
            options: vec!["noatime".into()],
            read_only: false,
        };
        assert_eq!(plan, expected);
        let erofs = Plan::new(&[mount("erofs", &["loop"])], Path::new("/r")).unwrap();
        assert!(matches!(erofs, Plan::Disk { read_only: true, .. }));
    }

    #[test]
    fn unknown_type_is_named() {
        for given in [vec![mount("zfs", &[])], vec![mount("erofs", &[]), mount("format/x", &[])]] {
            let error = Plan::new(&given, Path::new("/r")).unwrap_err().to_string();
            assert!(error.contains(&format!("{:?}", given[0].fstype)), "{error}");
        }
    }

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
