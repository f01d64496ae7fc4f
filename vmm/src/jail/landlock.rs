//! What Landlock takes from the process besides: names that the mounts leave within reach.
//!
//! The share's server needs `/proc/self/fd`, and a link there leads back to the mount by which a
//! file was opened, wherever that is. The attack: a server that is taken over opens the guest's
//! read-only images once more, for writing. Landlock judges the file and not the name. Files below
//! the share may be used in every way. Files of this process's own directory in /proc may be read.
//! No other file may be opened at all.
//!
//! A kernel without Landlock, or with too little of it, leaves out what it does not know. Version 1
//! can't allow renames between directories, so that it is of no use with a share.

use std::os::fd::{AsFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};

/// The newest version whose rights are known here.
const KNOWN: ABI = ABI::V7;

/// Restricts this thread, and those that it makes from now on, to what is below `share` and to
/// looking into `process`, its own directory of `/proc`. It may signal no process that is not
/// restricted with it.
///
/// # Errors
/// If the kernel has Landlock and refuses.
pub(super) fn restrict(content: Option<(OwnedFd, OwnedFd)>) -> Result<(), RulesetError> {
    let all = AccessFs::from_all(KNOWN);
    let rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let mut rules = rules.handle_access(all)?.scope(Scope::from_all(KNOWN))?.create()?;
    if let Some((share, process)) = &content {
        let look = AccessFs::ReadFile | AccessFs::ReadDir;
        rules = rules.add_rule(PathBeneath::new(share.as_fd(), all))?;
        rules = rules.add_rule(PathBeneath::new(process.as_fd(), look))?;
    }
    rules.restrict_self().map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsRawFd;

    use super::*;

    fn opened(path: &std::path::Path) -> OwnedFd {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap()
    }

    #[test]
    fn a_descriptor_is_opened_anew_only_below_the_share() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        for name in ["share/a", "share/b"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::fs::write(path("image"), "image").unwrap();
        std::fs::write(path("share/a/file"), "file").unwrap();
        let image = File::open(path("image")).unwrap();
        let inode = opened(&path("share/a/file"));
        let (share, process) = (opened(&path("share")), opened("/proc/thread-self".as_ref()));
        let thread = std::thread::spawn(move || {
            restrict(Some((share, process))).unwrap();
            let again = |fd: i32, write: bool| {
                let link = format!("/proc/thread-self/fd/{fd}");
                OpenOptions::new().read(true).write(write).open(link).map_err(|e| e.kind())
            };
            let denied = Some(std::io::ErrorKind::PermissionDenied);
            assert_eq!(again(image.as_raw_fd(), true).err(), denied);
            assert_eq!(again(image.as_raw_fd(), false).err(), denied);
            again(inode.as_raw_fd(), true).unwrap();
        });
        thread.join().unwrap();
        assert_eq!(std::fs::read(path("image")).unwrap(), b"image");
    }

    #[test]
    fn files_of_the_share_can_be_made_moved_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let (share, process) = (opened(dir.path()), opened("/proc/thread-self".as_ref()));
        let thread = std::thread::spawn(move || {
            let root = share.try_clone().unwrap();
            restrict(Some((share, process))).unwrap();
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
            rustix::fs::openat(&root, "a/file", flags, mode).unwrap();
            rustix::fs::renameat(&root, "a/file", &root, "b/file").unwrap();
            rustix::fs::linkat(&root, "b/file", &root, "a/other", rustix::fs::AtFlags::empty())
                .unwrap();
            rustix::fs::unlinkat(&root, "b/file", rustix::fs::AtFlags::empty()).unwrap();
        });
        thread.join().unwrap();
        assert!(dir.path().join("a/other").exists());
    }
}
