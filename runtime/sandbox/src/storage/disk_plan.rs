//! A disk with a filesystem, as a caller's mount describes it (pure).

use std::path::PathBuf;

use api::Error;
use api::request::Mount;

/// Filesystems that the guest mounts from a disk.
pub(super) const DISKS: [&str; 3] = ["ext4", "xfs", "erofs"];

/// A disk with a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPlan {
    /// The image file or block device.
    pub source: PathBuf,
    /// How the guest mounts it.
    pub fstype: String,
    /// mount(8) options for the guest.
    pub options: Vec<String>,
    /// Further images with parts of its content, in their order (EROFS).
    pub parts: Vec<PathBuf>,
    /// Whether nothing may be written.
    pub read_only: bool,
}

impl DiskPlan {
    /// How `mount` is given to the guest. Options that are for the host are left out.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it shall be verified, which the guest doesn't.
    pub(super) fn new(mount: &Mount) -> Result<Self, Error> {
        if mount.options.iter().any(|option| option.starts_with("X-containerd.dmverity")) {
            let reason = "layers with dm-verity can't be verified in the guest yet";
            return Err(Error::Invalid(format!("{}: {reason}", mount.source)));
        }
        let read_only = mount.fstype == "erofs" || mount.options.iter().any(|o| o == "ro");
        let host_only = |option: &&String| {
            matches!(option.as_str(), "loop" | "ro" | "rw" | "bind" | "rbind")
                || option.starts_with("X-containerd.")
                || option.starts_with("device=")
        };
        let mut options: Vec<String> =
            mount.options.iter().filter(|option| !host_only(option)).cloned().collect();
        if read_only {
            options.push("ro".into());
        }
        let parts = mount.options.iter().filter_map(|option| option.strip_prefix("device="));
        Ok(Self {
            source: PathBuf::from(&mount.source),
            fstype: mount.fstype.clone(),
            options,
            parts: parts.map(PathBuf::from).collect(),
            read_only,
        })
    }
}

/// Names the mount that no guest can be given.
pub(super) fn unsupported(given: &[Mount], at: usize) -> Error {
    let fstype = given.get(at).map(|mount| mount.fstype.as_str()).unwrap_or_default();
    Error::Invalid(format!(
        "root filesystem mount of type {fstype:?} ({} of {}) is not supported: overlay and bind, \
         one ext4, xfs or erofs disk, or containerd's erofs layers are",
        at + 1,
        given.len(),
    ))
}
