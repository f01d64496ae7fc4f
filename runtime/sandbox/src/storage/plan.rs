//! What a caller's mounts make of a container's root filesystem (pure).

use std::path::Path;

use api::Error;
use api::request::Mount;

use super::disk_plan::{DISKS, DiskPlan, unsupported};
use super::layers::Layers;

/// How a root filesystem is given to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Mounted on the host, one over the other, and shared.
    Shared(Vec<Mount>),
    /// A disk with a filesystem.
    Disk(DiskPlan),
    /// Disks, joined in the guest.
    Layers(Layers),
}

/// Filesystems that the host mounts for the guest.
const SHARED: [&str; 2] = ["overlay", "bind"];

impl Plan {
    /// Sorts the caller's mounts. Without any, the configuration's own root directory counts.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the name of a type that can't be given to a guest.
    pub fn new(given: &[Mount], root: &Path) -> Result<Self, Error> {
        match given {
            [] => Ok(Self::Shared(vec![Mount {
                fstype: "bind".into(),
                source: root.to_string_lossy().into_owned(),
                options: vec!["rbind".into()],
                ..Mount::default()
            }])),
            [disk] if DISKS.contains(&disk.fstype.as_str()) => Ok(Self::Disk(DiskPlan::new(disk)?)),
            mounts if Layers::are_in(mounts) => Ok(Self::Layers(Layers::new(mounts)?)),
            mounts => match mounts.iter().position(|m| !SHARED.contains(&m.fstype.as_str())) {
                None => Ok(Self::Shared(mounts.to_vec())),
                Some(at) => Err(unsupported(mounts, at)),
            },
        }
    }
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
        let expected = DiskPlan {
            source: "/src".into(),
            fstype: "ext4".into(),
            options: vec!["noatime".into()],
            parts: Vec::new(),
            read_only: false,
        };
        assert_eq!(plan, Plan::Disk(expected));
        let erofs = [mount("erofs", &["loop", "device=/a", "device=/b"])];
        let Plan::Disk(erofs) = Plan::new(&erofs, Path::new("/r")).unwrap() else { panic!() };
        assert!(erofs.read_only && erofs.options == ["ro"]);
        assert_eq!(erofs.parts, [Path::new("/a"), Path::new("/b")]);
    }

    #[test]
    fn unknown_type_is_named() {
        for given in [vec![mount("zfs", &[])], vec![mount("erofs", &[]), mount("format/x", &[])]] {
            let error = Plan::new(&given, Path::new("/r")).unwrap_err().to_string();
            let unknown = given.last().unwrap();
            assert!(error.contains(&format!("{:?}", unknown.fstype)), "{error}");
        }
    }

    #[test]
    fn layer_that_shall_be_verified_is_not_taken_unverified() {
        let given = [mount("erofs", &["X-containerd.dmverity=/x.json"])];
        let error = Plan::new(&given, Path::new("/r")).unwrap_err().to_string();
        assert!(error.contains("dm-verity"), "{error}");
    }
}
