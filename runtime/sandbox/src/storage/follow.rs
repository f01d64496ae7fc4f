//! Mounts that the host makes below a volume later (`HostToContainer` propagation). The kernel's
//! own propagation would show them to the machine with device nodes and set-user-id programs;
//! so volumes are kept apart, and this shows them what appears, without those.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, openat2};
use rustix::mount::UnmountFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use crate::mounts::table::{self, Mounted};
use crate::mounts::{self, Options};

const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Shows a volume the host's later mounts while it lives.
#[derive(Debug)]
pub(super) struct Follower(AbortHandle);

impl Follower {
    /// Follows what happens below `source`, of which `target` shows the mounts in `known`.
    /// `stage` is as for [`mounts::bind`].
    ///
    /// # Errors
    /// The table of mounts can't be watched.
    pub(super) fn new(
        source: &Path,
        target: &Path,
        stage: &Path,
        known: &[Mounted],
    ) -> io::Result<Self> {
        let mut volume = Volume {
            source: source.to_owned(),
            target: target.to_owned(),
            stage: stage.to_owned(),
            shown: below(known, source),
        };
        let table = crate::spawn::register(File::open(table::PATH)?, Interest::PRIORITY)?;
        let task = tokio::spawn(async move { while let Ok(()) = volume.follow(&table).await {} });
        Ok(Self(task.abort_handle()))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Volume {
    source: PathBuf,
    target: PathBuf,
    stage: PathBuf,
    /// Paths below the source and the mounts that were there.
    shown: BTreeMap<PathBuf, u64>,
}

/// Mounts below a directory: where, and the number of the last one there (pure).
fn below(table: &[Mounted], directory: &Path) -> BTreeMap<PathBuf, u64> {
    let inside = |mounted: &Mounted| {
        let path = mounted.point.strip_prefix(directory).ok()?;
        (!path.as_os_str().is_empty()).then(|| (path.to_owned(), mounted.id))
    };
    table.iter().filter_map(inside).collect()
}

impl Volume {
    /// Shows what there is, and waits until the table of mounts is another.
    async fn follow(&mut self, table: &AsyncFd<File>) -> io::Result<()> {
        if let Err(error) = self.update() {
            log::warn!("mounts below {}: {error}", self.source.display());
        }
        table.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
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
        let to = inside(&self.target, path)?;
        mounts::bind(&by_fd(&from), &by_fd(&to), &Options::parse(&[]), &self.stage)
    }

    /// Unmounts what was shown at a path, if it still is.
    fn hide(&self, path: &Path) {
        let Ok(place) = inside(&self.target, path) else { return };
        if !mount_of(&place).is_ok_and(|(_, is_root)| is_root) {
            return;
        }
        if let Err(error) = rustix::mount::unmount(by_fd(&place), UnmountFlags::DETACH) {
            log::warn!("hiding {}: {error}", self.target.join(path).display());
        }
    }
}

/// Opens a path in a directory that the guest can write to. The attack: a link where the host
/// has something mounted, by which the guest would be shown, or have unmounted, anything.
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

fn by_fd(place: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", place.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A directory whose mounts are this test's alone, and which is gone with all of them.
    struct Ground(tempfile::TempDir);

    impl Ground {
        fn new() -> Self {
            let ground = Self(tempfile::tempdir().unwrap());
            for name in ["source/sub/deeper", "source/other", "target", "data/deeper"] {
                std::fs::create_dir_all(ground.path(name)).unwrap();
            }
            std::fs::write(ground.path("data/file"), "").unwrap();
            ground
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(name)
        }

        fn show(&self) -> Volume {
            let options = Options::parse(&["rbind".to_owned()]);
            let (source, target) = (self.path("source"), self.path("target"));
            let known = table::read().unwrap();
            mounts::bind(&source, &target, &options, &self.path("stage")).unwrap();
            let shown = below(&known, &source);
            Volume { source, target, stage: self.path("stage"), shown }
        }
    }

    impl Drop for Ground {
        fn drop(&mut self) {
            mounts::detach_below(self.0.path()).unwrap();
        }
    }

    #[test]
    fn later_mounts_come_without_devices_and_go() {
        let ground = Ground::new();
        let mut volume = ground.show();
        rustix::mount::mount_bind(ground.path("data"), ground.path("source/sub")).unwrap();
        rustix::mount::mount_bind(ground.path("data"), ground.path("source/sub/deeper")).unwrap();
        assert!(!ground.path("target/sub/file").exists());
        volume.update().unwrap();
        assert!(ground.path("target/sub/deeper/file").exists());
        let text = std::fs::read_to_string(table::PATH).unwrap();
        let target = ground.path("target/sub").display().to_string();
        let lines: Vec<_> = text.lines().filter(|line| line.contains(&target)).collect();
        assert!(lines.len() == 2 && lines.iter().all(|l| l.contains("nosuid,nodev")), "{lines:?}");
        mounts::detach(&ground.path("source/sub")).unwrap();
        volume.update().unwrap();
        assert!(!ground.path("target/sub/file").exists());
        assert!(ground.path("target/other").exists());
    }

    #[test]
    fn links_in_a_volume_lead_nowhere() {
        let ground = Ground::new();
        let mut volume = ground.show();
        rustix::mount::mount_bind(ground.path("data"), ground.path("source/sub/deeper")).unwrap();
        // What a guest can do, in whose namespace nothing is mounted there.
        std::fs::rename(ground.path("target/other"), ground.path("target/moved")).unwrap();
        let outside = ground.path("data");
        std::os::unix::fs::symlink(&outside, ground.path("target/other")).unwrap();
        volume.shown.insert("other/deeper".into(), 1);
        volume.update().unwrap();
        assert!(
            ground.path("data/file").exists() && ground.path("target/sub/deeper/file").exists()
        );
        assert!(inside(&ground.path("source"), Path::new("other/file")).is_err());
    }

    #[tokio::test]
    async fn follower_hears_of_mounts_by_itself() {
        let ground = Ground::new();
        let Volume { source, target, stage, .. } = ground.show();
        let follower = Follower::new(&source, &target, &stage, &table::read().unwrap()).unwrap();
        tokio::task::yield_now().await;
        rustix::mount::mount_bind(ground.path("data"), ground.path("source/sub")).unwrap();
        let file = ground.path("target/sub/file");
        let mut patience = 1000;
        while !file.exists() && patience > 0 {
            patience -= 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(file.exists());
        drop(follower);
    }
}
