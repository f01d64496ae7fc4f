//! Mounts that the host makes below a volume later (`HostToContainer` propagation). The kernel's
//! own propagation would show them to the machine with device nodes and set-user-id programs. So
//! volumes are kept apart, and this module shows them what appears, without those.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::mounts::table::{self, Mounted};
use host::mounts::{Options, Share, Tree};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, openat2};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Shows a volume the host's later mounts while it lives.
#[derive(Debug)]
pub(super) struct Follower(AbortHandle);

impl Follower {
    /// Follows what happens below a volume's source.
    ///
    /// # Errors
    /// The table of mounts can't be watched.
    pub(super) fn new(mut volume: Volume) -> io::Result<Self> {
        let table = host::spawn::register(File::open(table::PATH)?, Interest::PRIORITY)?;
        let follow = async move {
            while let Ok(same) = volume.follow(&table).await {
                volume = same;
            }
        };
        Ok(Self(tokio::spawn(follow).abort_handle()))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A volume as the machine sees it.
#[derive(Debug)]
pub(super) struct Volume {
    source: PathBuf,
    share: Arc<Share>,
    /// In the share.
    target: PathBuf,
    /// Paths below the source and the mounts that were there.
    shown: BTreeMap<PathBuf, u64>,
    /// Whether later mounts can't be written either.
    read_only: bool,
}

/// Mounts below a directory: where, and the number of the last one there (pure).
fn below(table: &[Mounted], directory: &Path) -> BTreeMap<PathBuf, u64> {
    let inside = |mounted: &Mounted| {
        let path = mounted.point.strip_prefix(directory).ok()?;
        Some((path.to_owned(), mounted.id))
    };
    table::below(table, directory).filter_map(inside).collect()
}

impl Volume {
    /// What the host has at `source`, of which `target` in the share shows the mounts in `known`.
    pub(super) fn new(
        source: PathBuf,
        share: Arc<Share>,
        target: PathBuf,
        known: &[Mounted],
        read_only: bool,
    ) -> Self {
        let shown = below(known, &source);
        Self { source, share, target, shown, read_only }
    }

    /// What the host has there.
    pub(super) fn source(&self) -> &Path {
        &self.source
    }

    /// Shows what there is, and waits until the table of mounts is another.
    async fn follow(mut self, table: &AsyncFd<File>) -> io::Result<Self> {
        // A filesystem that does not answer holds up this volume, and nothing else of the pod.
        let update = move || {
            if let Err(error) = self.update() {
                log::warn!("mounts below {}: {error}", self.source.display());
            }
            self
        };
        let volume = tokio::task::spawn_blocking(update).await.map_err(io::Error::other)?;
        table.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(volume)
    }

    fn update(&mut self) -> io::Result<()> {
        let now = below(&table::read()?, &self.source);
        let before = std::mem::take(&mut self.shown);
        // Children first.
        for (path, id) in before.iter().rev() {
            if now.get(path) != Some(id) {
                self.hide(path);
            }
        }
        for (path, id) in &now {
            if before.get(path) != Some(id)
                && let Err(error) = self.show(path, *id)
            {
                let path = self.source.join(path);
                log::warn!("mount at {} is not shown in the volume: {error}", path.display());
            }
        }
        self.shown = now;
        Ok(())
    }

    fn show(&self, path: &Path, id: u64) -> io::Result<()> {
        let from = inside(&self.source, path)?;
        // Another may have taken its place; then that is news, too.
        if mount_of(&from)? != (id, true) {
            return Ok(());
        }
        let options = Options { all_read_only: self.read_only, ..Options::parse(&[]) };
        self.share.attach(Tree::of_place(from.as_fd(), &options)?, &self.target.join(path))
    }

    /// Unmounts what was shown at a path, if it still is.
    fn hide(&self, path: &Path) {
        if let Err(error) = self.share.detach(&self.target.join(path)) {
            log::warn!("hiding what was at {}: {error}", self.source.join(path).display());
        }
    }
}

/// Opens a path in a directory that the guest can write to. The attack: a link where the host
/// has something mounted, by which the guest would be shown anything.
fn inside(directory: &Path, path: &Path) -> io::Result<OwnedFd> {
    let directory = rustix::fs::open(directory, PLACE, Mode::empty())?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(&directory, path, PLACE, Mode::empty(), within)?)
}

/// The number of the mount that a place is in, and whether it is its root.
fn mount_of(place: &OwnedFd) -> io::Result<(u64, bool)> {
    let found = rustix::fs::statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok((found.stx_mnt_id, found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use rustix::fs::StatVfsMountFlags;

    use super::*;

    /// A directory whose mounts are this test's alone, and which is gone with all of them.
    struct Ground {
        dir: tempfile::TempDir,
        share: Arc<Share>,
        seen: OwnedFd,
    }

    impl Ground {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            for name in ["source/sub/deeper", "source/other", "scaffold/target", "data/deeper"] {
                std::fs::create_dir_all(path(name)).unwrap();
            }
            std::fs::write(path("data/file"), "").unwrap();
            let share = Arc::new(Share::new(&path("scaffold")).unwrap());
            let seen = share.directory().unwrap();
            Self { dir, share, seen }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join(name)
        }

        /// What a machine sees.
        fn seen(&self, name: &str) -> PathBuf {
            PathBuf::from(format!("/proc/self/fd/{}/target", self.seen.as_raw_fd())).join(name)
        }

        fn show(&self) -> Volume {
            let options = Options::parse(&["rbind".to_owned()]);
            let source = self.path("source");
            let known = table::read().unwrap();
            let tree = Tree::of(&source, &options).unwrap();
            self.share.attach(tree, Path::new("target")).unwrap();
            Volume::new(source, self.share.clone(), "target".into(), &known, false)
        }

        fn mount(&self, name: &str) {
            rustix::mount::mount_bind(self.path("data"), self.path(name)).unwrap();
        }

        fn unmount(&self, name: &str) {
            let flags = rustix::mount::UnmountFlags::DETACH;
            rustix::mount::unmount(self.path(name), flags).unwrap();
        }
    }

    impl Drop for Ground {
        fn drop(&mut self) {
            let own = |mounted: &Mounted| mounted.point.starts_with(self.path(""));
            for mounted in table::read().unwrap().iter().rev().filter(|mounted| own(mounted)) {
                let flags = rustix::mount::UnmountFlags::DETACH;
                rustix::mount::unmount(&mounted.point, flags).unwrap();
            }
        }
    }

    #[test]
    fn later_mounts_come_without_devices_and_go() {
        let ground = Ground::new();
        let mut volume = ground.show();
        ground.mount("source/sub");
        ground.mount("source/sub/deeper");
        assert!(!ground.seen("sub/file").exists());
        volume.update().unwrap();
        for shown in ["sub", "sub/deeper"] {
            assert!(ground.seen(shown).join("file").exists());
            let flags = rustix::fs::statvfs(ground.seen(shown)).unwrap().f_flag;
            let wanted = StatVfsMountFlags::NODEV | StatVfsMountFlags::NOSUID;
            assert!(flags.contains(wanted), "{shown}: {flags:?}");
            assert!(!flags.contains(StatVfsMountFlags::RDONLY), "{shown}: {flags:?}");
        }
        ground.unmount("source/sub/deeper");
        ground.unmount("source/sub");
        volume.update().unwrap();
        assert!(!ground.seen("sub/file").exists());
        assert!(ground.seen("other").exists());
    }

    #[test]
    fn later_mounts_are_read_only_where_all_of_it_is() {
        let ground = Ground::new();
        let mut volume = Volume { read_only: true, ..ground.show() };
        ground.mount("source/sub");
        volume.update().unwrap();
        let flags = rustix::fs::statvfs(ground.seen("sub")).unwrap().f_flag;
        assert!(flags.contains(StatVfsMountFlags::RDONLY), "{flags:?}");
        ground.unmount("source/sub");
    }

    #[test]
    fn links_in_a_volume_lead_nowhere() {
        let ground = Ground::new();
        let mut volume = ground.show();
        ground.mount("source/sub/deeper");
        // What a guest can do, in whose namespace nothing is mounted there.
        std::fs::rename(ground.seen("other"), ground.seen("moved")).unwrap();
        let outside = ground.path("data");
        std::os::unix::fs::symlink(&outside, ground.seen("other")).unwrap();
        volume.shown.insert("other/deeper".into(), 1);
        volume.update().unwrap();
        assert!(ground.path("data/file").exists() && ground.seen("sub/deeper/file").exists());
        assert!(inside(&ground.path("source"), Path::new("other/file")).is_err());
        let tree = Tree::of(&outside, &Options::parse(&[])).unwrap();
        assert!(ground.share.attach(tree, Path::new("target/other/deeper")).is_err());
    }

    #[tokio::test]
    async fn follower_hears_of_mounts_by_itself() {
        let ground = Ground::new();
        let follower = Follower::new(ground.show()).unwrap();
        tokio::task::yield_now().await;
        ground.mount("source/sub");
        let file = ground.seen("sub/file");
        let mut patience = 1000;
        while !file.exists() && patience > 0 {
            patience -= 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(file.exists());
        drop(follower);
    }
}
