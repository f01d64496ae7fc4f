//! The directory that a machine shares with its guest, and what is mounted in it.
//!
//! All of it is in a mount namespace of its own. A thread of this process lives in that namespace,
//! and the VMM is started there. The host sees none of these mounts. It can unmount and remove
//! whatever it has below a volume while a pod uses the volume. Nothing is left mounted when this
//! process and the VMM are gone, however that came. A source is picked up in the host's own
//! namespace, as [`Tree`], when it is to be seen. So nothing depends on how the host's mounts
//! propagate.
//!
//! ```text
//!  this process: the host's mounts          the thread's namespace           the VMM's jail
//!  ─ source ──── Tree (nowhere) ── attach ──► /share/<container>/… ─ slave ─► /share/<container>/…
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, mkdirat, openat2,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::{Tree, namespace};
use crate::spawn::Forked;

/// Stack of the thread in bytes, of which it touches little.
const STACK: usize = 256 << 10;

/// How long the kernel may take for one mount. What unmounts the last of a filesystem whose server
/// is gone may wait for it.
const LIMIT: Duration = Duration::from_secs(10);

const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Something to do in the namespace.
type Job = Box<dyn FnOnce() + Send>;

/// A machine's share. What is mounted in it goes with the value and the VMM.
#[derive(Debug)]
pub struct Share {
    jobs: mpsc::Sender<Job>,
    made: Made,
}

/// What the thread has made for itself.
#[derive(Debug)]
struct Made {
    /// An empty filesystem with a place for the share.
    top: OwnedFd,
    /// The share's own root.
    root: OwnedFd,
}

impl Share {
    /// Makes a share of the directory `scaffold`, which can't be changed through it, and whose
    /// later mounts the machine sees.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn new(scaffold: &Path) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let scaffold = scaffold.to_owned();
        let live = move || {
            // Nobody is there to be told when the other side gave up.
            let _gone = tell.send(Made::new(&scaffold));
            queue.into_iter().for_each(|job| job());
        };
        std::thread::Builder::new().name("share".into()).stack_size(STACK).spawn(live)?;
        let made = told.recv().map_err(io::Error::other)??;
        Ok(Self { jobs, made })
    }

    /// Does something in the namespace.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = mpsc::channel();
        let job = move || {
            let _gone = tell.send(work());
        };
        self.jobs.send(Box::new(job)).map_err(|_| io::Error::other("the share is gone"))?;
        match told.recv_timeout(LIMIT) {
            Ok(done) => done,
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the share is gone")),
            Err(RecvTimeoutError::Timeout) => {
                let text = "a filesystem of the host has not answered for 10 s while it was \
                            mounted or unmounted for the machine";
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    /// The directory itself, for the machine.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn directory(&self) -> io::Result<OwnedFd> {
        self.made.root.try_clone()
    }

    /// Has `begin` start the VMM: it must be in this namespace to be able to copy the share into its
    /// jail. It is the first and only process of a process namespace, in which it can name no other. To
    /// be called once.
    ///
    /// # Errors
    /// What `begin` and the kernel answered.
    pub fn start(
        &self,
        begin: impl FnOnce() -> io::Result<Forked> + Send + 'static,
    ) -> io::Result<Forked> {
        self.run(move || {
            namespace::part_children()?;
            begin()
        })
    }

    /// Forgets the host's mounts, once the VMM is in its jail: the copies in this namespace would
    /// keep what the host unmounts, where that does not propagate.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn seal(&self) -> io::Result<()> {
        let top = self.made.top.try_clone()?;
        self.run(move || {
            fchdir(top)?;
            pivot_root(".", ".")?;
            // The old root is now mounted on top of the new one.
            unmount(".", UnmountFlags::DETACH)?;
            Ok(chdir("/")?)
        })
    }

    /// Makes `directory` of the share a mount, with which all goes that is mounted below it.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn admit(&self, directory: &Path) -> io::Result<()> {
        let place = self.find(directory)?;
        self.run(move || attach(&Tree::read_only(place.as_fd())?, &place))
    }

    /// Shows `tree` at `path` in the share, without following a link.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn attach(&self, tree: Tree, path: &Path) -> io::Result<()> {
        let place = self.find(path)?;
        self.run(move || attach(&tree, &place))
    }

    /// Shows `tree` at `target` in what is mounted at `root` in the share. The attack: an image
    /// with a link there to a directory of the host; links lead nowhere but into the root.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn attach_inside(&self, tree: Tree, root: &Path, target: &str) -> io::Result<()> {
        if target.is_empty() {
            return self.attach(tree, root);
        }
        let place = in_root(self.find(root)?.as_fd(), target)?;
        self.run(move || attach(&tree, &place))
    }

    /// Unmounts what is at `path` in the share, with all below it; busy users keep it until they
    /// let go. Nothing there is fine.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn detach(&self, path: &Path) -> io::Result<()> {
        let place = match self.find(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            place => place?,
        };
        let found = rustix::fs::statx(&place, "", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
        if !found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Ok(());
        }
        self.run(move || detach(place))
    }

    /// Unmounts everything: the machine is over.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn clear(&self) -> io::Result<()> {
        let root = self.directory()?;
        self.run(move || detach(root))
    }

    /// Opens a place, to which a guest may be able to write. The attack: a link where the host
    /// is about to mount, by which the guest would be shown, or have unmounted, anything.
    fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(openat2(&self.made.root, path, PLACE, Mode::empty(), within)?)
    }
}

impl Made {
    fn new(scaffold: &Path) -> io::Result<Self> {
        namespace::leave()?;
        let place = rustix::fs::open(scaffold, PLACE | OFlags::DIRECTORY, Mode::empty())?;
        let share = Tree::read_only(place.as_fd())?;
        let top = empty()?;
        attach(&top, &place)?;
        mkdirat(&top, "share", Mode::from_raw_mode(0o755))?;
        fchdir(&top)?;
        move_mount(&share, "", CWD, "share", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        mount_change("share", MountPropagationFlags::SHARED)?;
        let root = rustix::fs::open("share", PLACE | OFlags::DIRECTORY, Mode::empty())?;
        chdir("/")?;
        Ok(Self { top, root })
    }
}

/// An empty filesystem.
fn empty() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let (flags, attributes) = (FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
    Ok(fsmount(context.as_fd(), flags, attributes)?)
}

/// Mounts in this thread's namespace what is mounted nowhere yet.
fn attach(tree: &impl AsFd, place: &OwnedFd) -> io::Result<()> {
    let by_descriptor =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", place, "", by_descriptor)?)
}

/// Unmounts in this thread's namespace, which has no `/proc` to name a descriptor by.
fn detach(place: OwnedFd) -> io::Result<()> {
    fchdir(place)?;
    let gone = unmount(".", UnmountFlags::DETACH);
    chdir("/")?;
    Ok(gone?)
}

/// Opens a place as if `root` were the root directory.
fn in_root(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, path, PLACE, Mode::empty(), inside) {
            // On the way to `..` something was renamed or mounted on the node, anything anywhere:
            // only that attempt failed.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests;
