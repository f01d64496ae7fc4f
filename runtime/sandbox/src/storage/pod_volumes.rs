//! Directories that several containers of a pod have as volumes. Each is shown once, and the guest
//! binds it into every container. Its files are then the same files to the guest's kernel. So Unix
//! sockets, fifos, inotify, locks and shared mappings join the containers as on any host. The
//! share's server also tells files apart by their mount: a file seen by two mounts would be two
//! files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use host::mounts::{IdMaps, Options, Share, Tree};
use host::store::StateDir;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fstatvfs, statx};
use rustix::mount::MountFlags;

use crate::spec::{Bind, ReadOnly};

/// The directories of one machine's containers.
#[derive(Debug, Default)]
pub(crate) struct Volumes(Mutex<Shown>);

#[derive(Debug, Default)]
struct Shown {
    /// How many there have been.
    count: u64,
    places: Vec<Weak<Place>>,
    /// Filesystems of the host in whose place the guest has one of its own, by device number.
    replaced: BTreeMap<(u32, u32), Tree>,
}

/// Which directory it is, and as what its files are seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    device: (u32, u32),
    inode: u64,
    /// Of its mount and filesystem on the host, as statvfs(3) tells.
    flags: u64,
    ids: Option<IdMaps>,
}

/// Where a directory is shown, until nobody has this value any more.
#[derive(Debug)]
pub(super) struct Place {
    identity: Identity,
    writable: bool,
    number: u64,
    state: StateDir,
    share: Arc<Share>,
}

impl Volumes {
    /// Keeps a filesystem of the host, by a mount that nobody sees, for as long as the machine
    /// lives: its device number, by which the guest's own is known, is given to no other one.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(super) fn keep(&self, device: (u32, u32), root: &Path) -> io::Result<()> {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(place) = shown.replaced.entry(device) {
            place.insert(Tree::of(root, &Options::parse(&[]))?);
        }
        Ok(())
    }

    /// Shows the directory `source`, which has nothing mounted below it, if it is not shown yet.
    /// What one container may only read is shown so that it can be written if another container
    /// may; the guest keeps them apart. The VMM has the right to write in both cases.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(super) fn show(
        &self,
        bind: &Bind,
        source: &Path,
        state: &StateDir,
        share: &Arc<Share>,
    ) -> io::Result<Arc<Place>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(source, flags, Mode::empty())?;
        let identity = Identity::of(&directory, bind.ids.clone())?;
        let writes = bind.read_only == ReadOnly::Nothing;
        // From here on nothing waits for the source's filesystem.
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.places.retain(|place| place.strong_count() > 0);
        let fits = |place: &Arc<Place>| place.identity == identity && (place.writable || !writes);
        if let Some(place) = shown.places.iter().filter_map(Weak::upgrade).find(fits) {
            return Ok(place);
        }
        // Whoever of the pod comes next probably writes to a volume that is the pod's own.
        let writable = writes || super::is_empty_dir(source);
        shown.count += 1;
        let (state, share) = (state.clone(), Arc::clone(share));
        let place = Place { identity, writable, number: shown.count, state, share };
        place.attach(&directory)?;
        let place = Arc::new(place);
        shown.places.push(Arc::downgrade(&place));
        Ok(place)
    }
}

impl Identity {
    fn of(directory: impl AsFd, ids: Option<IdMaps>) -> io::Result<Self> {
        let found = statx(&directory, "", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
        let device = (found.stx_dev_major, found.stx_dev_minor);
        let flags = fstatvfs(&directory)?.f_flag.bits();
        Ok(Self { device, inode: found.stx_ino, flags, ids })
    }
}

impl Place {
    fn attach(&self, directory: &impl AsFd) -> io::Result<()> {
        let target = self.state.create_volume(self.number, &self.share)?;
        let mut options = Options::parse(&[]);
        options.ids.clone_from(&self.identity.ids);
        options.flags.set(MountFlags::RDONLY, !self.writable);
        self.share.attach(Tree::of_place(directory.as_fd(), &options)?, &target)
    }

    /// Where it is in the guest.
    pub(super) fn guest_path(&self) -> PathBuf {
        Path::new(agent_api::SHARE_DIR).join(StateDir::volume(self.number))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = self.state.destroy_volume(self.number, &self.share) {
            log::warn!("hiding volume {}: {error}", self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, OwnedFd};

    use super::*;

    /// Two directories, of which a pod's volumes are made.
    struct Ground {
        dir: tempfile::TempDir,
        state: StateDir,
        share: Arc<Share>,
        seen: OwnedFd,
        volumes: Volumes,
    }

    impl Ground {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["one", "other", "kubernetes.io~empty-dir/cache"] {
                std::fs::create_dir_all(dir.path().join(name)).unwrap();
            }
            let state = StateDir::at(&dir.path().join("state"));
            let share = Arc::new(state.create_share().unwrap());
            let seen = share.directory().unwrap();
            Self { dir, state, share, seen, volumes: Volumes::default() }
        }

        fn show(&self, name: &str, read_only: ReadOnly) -> Arc<Place> {
            let source = self.dir.path().join(name);
            let bind = Bind {
                mount: 0,
                source: source.clone(),
                destination: "/data".into(),
                recursive: true,
                read_only,
                follows: false,
                ids: None,
            };
            self.volumes.show(&bind, &source, &self.state, &self.share).unwrap()
        }

        /// What a machine sees.
        fn seen(&self, place: &Place) -> PathBuf {
            let path = place.guest_path();
            let inside = path.strip_prefix(agent_api::SHARE_DIR).unwrap();
            PathBuf::from(format!("/proc/self/fd/{}", self.seen.as_raw_fd())).join(inside)
        }
    }

    #[test]
    fn the_same_directory_is_shown_once_as_long_as_somebody_has_it() {
        let ground = Ground::new();
        let first = ground.show("one", ReadOnly::Nothing);
        let second = ground.show("one", ReadOnly::Nothing);
        let reader = ground.show("one", ReadOnly::All);
        assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&first, &reader));
        assert!(!Arc::ptr_eq(&first, &ground.show("other", ReadOnly::Nothing)));
        let seen = ground.seen(&first);
        std::fs::write(seen.join("file"), "text").unwrap();
        assert_eq!(std::fs::read(ground.dir.path().join("one/file")).unwrap(), b"text");
        drop((first, second));
        assert!(seen.join("file").exists());
        drop(reader);
        assert!(!seen.exists() && ground.dir.path().join("one/file").exists());
        assert_ne!(ground.seen(&ground.show("one", ReadOnly::Nothing)), seen);
    }

    #[test]
    fn what_is_only_read_can_not_be_written_by_the_machine() {
        let ground = Ground::new();
        let reader = ground.show("one", ReadOnly::Itself);
        assert!(std::fs::write(ground.seen(&reader).join("file"), "").is_err());
        let writer = ground.show("one", ReadOnly::Nothing);
        std::fs::write(ground.seen(&writer).join("file"), "").unwrap();
        assert!(std::fs::write(ground.seen(&reader).join("file"), "").is_err());
        // The pod's own, which a container that comes later may want to write.
        let cache = "kubernetes.io~empty-dir/cache";
        let (reader, writer) =
            (ground.show(cache, ReadOnly::All), ground.show(cache, ReadOnly::Nothing));
        assert!(Arc::ptr_eq(&reader, &writer));
    }
}
