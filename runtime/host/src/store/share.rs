//! The part of a sandbox's directory that its machine's share is made of: mount points.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use api::ContainerId;

use super::{StateDir, absent_is_fine};
use crate::mounts::Share;

impl StateDir {
    /// Makes the machine's share, which has nothing in it yet.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn create_share(&self) -> io::Result<Share> {
        let scaffold = self.scaffold();
        DirBuilder::new().mode(0o755).recursive(true).create(&scaffold)?;
        Share::new(&scaffold)
    }

    /// Makes a container's part of the share.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn create_container(&self, id: &ContainerId, share: &Share) -> io::Result<()> {
        std::fs::create_dir(self.scaffold().join(id.as_str()))?;
        share.admit(Path::new(id.as_str()))
    }

    /// Makes a mount point in a container's part of the share: a directory, or an empty file.
    /// Returns where it is in the share.
    ///
    /// # Errors
    /// What the filesystem answered.
    pub fn mount_point(
        &self,
        id: &ContainerId,
        name: &Path,
        directory: bool,
    ) -> io::Result<PathBuf> {
        let place = Path::new(id.as_str()).join(name);
        let made = self.scaffold().join(&place);
        if directory {
            std::fs::create_dir_all(&made)?;
        } else {
            if let Some(parent) = made.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::File::create(&made)?;
        }
        Ok(place)
    }

    /// Where in the share volume `number` of the pod is: no name of a container begins like that.
    pub fn volume(number: u64) -> PathBuf {
        format!(".volumes/{number}/volume").into()
    }

    /// Makes the mount point of a volume that is not one container's alone. Returns where it is in
    /// the share.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn create_volume(&self, number: u64, share: &Share) -> io::Result<PathBuf> {
        let place = Self::volume(number);
        std::fs::create_dir_all(self.scaffold().join(&place))?;
        share.admit(&volume_part(number))?;
        Ok(place)
    }

    /// Undoes what was made for a volume.
    ///
    /// # Errors
    /// What could not be undone.
    pub fn destroy_volume(&self, number: u64, share: &Share) -> io::Result<()> {
        share.detach(&volume_part(number))?;
        absent_is_fine(std::fs::remove_dir_all(self.scaffold().join(volume_part(number))))
    }

    /// Undoes what one container left, in the share of a machine that is not over as well.
    ///
    /// # Errors
    /// What could not be undone.
    pub fn destroy_container(&self, id: &ContainerId, share: Option<&Share>) -> io::Result<()> {
        if let Some(share) = share {
            share.detach(Path::new(id.as_str()))?;
        }
        absent_is_fine(std::fs::remove_dir_all(self.scaffold().join(id.as_str())))
    }
}

/// A volume's part of the share, which is hidden as a whole, without a look at the volume.
fn volume_part(number: u64) -> PathBuf {
    format!(".volumes/{number}").into()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::super::tests::state;
    use super::*;
    use crate::mounts::{Options, Tree};

    #[test]
    fn nothing_but_mounts_can_be_changed_in_the_share_and_removal_enters_none() {
        let (dir, state) = state();
        let id = ContainerId::new("web").unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("precious"), "").unwrap();
        state.create().unwrap();
        let share = state.create_share().unwrap();
        state.create_container(&id, &share).unwrap();
        let root = state.mount_point(&id, Path::new("rootfs"), true).unwrap();
        let file = state.mount_point(&id, Path::new("mounts/0"), false).unwrap();
        let directory = share.directory().unwrap();
        let seen = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        // What a guest would do: the machine has no other way to the directory than this mount.
        for link in ["next", "web/next", "web/mounts/1"] {
            let made = std::os::unix::fs::symlink("/", seen.join(link));
            assert_eq!(made.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem, "{link}");
        }
        assert!(std::fs::remove_file(seen.join(file)).is_err());
        let tree = || Tree::of(&data, &Options::parse(&[])).unwrap();
        share.attach(tree(), &root).unwrap();
        std::fs::write(seen.join(&root).join("written"), "").unwrap();
        assert!(!state.scaffold().join(&root).join("precious").exists());
        // While it is mounted, and while the machine lives.
        state.destroy_container(&id, None).unwrap();
        state.create_container(&id, &share).unwrap();
        let root = state.mount_point(&id, Path::new("rootfs"), true).unwrap();
        share.attach(tree(), &root).unwrap();
        assert!(seen.join(&root).join("written").exists());
        state.destroy_container(&id, Some(&share)).unwrap();
        assert!(!seen.join("web").exists());
        state.destroy().unwrap();
        assert!(data.join("precious").exists() && data.join("written").exists());
        assert!(!state.path().exists());
    }
}
