//! The place for files: a file system in memory that only this program sees. So nothing else of the
//! machine is in reach of a mistake.
#![allow(unsafe_code, reason = "leaving the mount namespace is an unsafe call")]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::MemfdFlags;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

const SECRET: &[u8] = b"not for the guest";

/// The top folder, made at the first call. Call first from the main thread.
pub(crate) fn dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = std::env::temp_dir().join("cuddy-fuzz");
        fs::create_dir_all(&dir).unwrap();
        // SAFETY: no code here relies on sharing mounts with other threads.
        let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) };
        unshared.expect("fuzzing files needs a mount namespace: run it as root, or by unshare -r");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        let limits = c"size=64m,nr_inodes=10k,mode=755";
        rustix::mount::mount("fuzz", &dir, "tmpfs", flags, Some(limits)).unwrap();
        dir
    })
}

/// An empty directory to be served, with a secret beside it. Forgets what was there before.
pub(crate) fn share() -> PathBuf {
    let top = dir().join("guest");
    // The first time there is none.
    let _ = fs::remove_dir_all(&top);
    fs::create_dir(&top).unwrap();
    fs::write(top.join("secret"), SECRET).unwrap();
    *remembered() = Some(seen(&top));
    let share = top.join("share");
    fs::create_dir(&share).unwrap();
    fs::write(share.join("a"), b"content").unwrap();
    fs::create_dir(share.join("b")).unwrap();
    std::os::unix::fs::symlink("../secret", share.join("c")).unwrap();
    share
}

/// What of the secret can change.
type Seen = (Vec<u8>, [u64; 6], [i64; 4]);

fn seen(top: &Path) -> Seen {
    let secret = top.join("secret");
    let data = fs::symlink_metadata(&secret).unwrap();
    let numbers = [
        data.ino(),
        data.nlink(),
        data.mode().into(),
        data.uid().into(),
        data.gid().into(),
        data.size(),
    ];
    let times = [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()];
    (fs::read(secret).unwrap(), numbers, times)
}

fn remembered() -> std::sync::MutexGuard<'static, Option<Seen>> {
    static SEEN: std::sync::Mutex<Option<Seen>> = std::sync::Mutex::new(None);
    SEEN.lock().unwrap()
}

/// Fails if something outside of the share has changed.
pub(crate) fn check() {
    let top = dir().join("guest");
    assert_eq!(*remembered(), Some(seen(&top)), "the secret beside the share has changed");
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    };
    assert_eq!(names(&top), ["secret", "share"], "something came to lie beside the share");
    let all = names(dir());
    assert!(all.iter().all(|name| name == "guest" || name == "vsock"), "{all:?}");
}

/// A file of `len` zeros without a name.
pub(crate) fn anonymous(len: u64) -> File {
    let file = File::from(rustix::fs::memfd_create("fuzz", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(len).unwrap();
    file
}
