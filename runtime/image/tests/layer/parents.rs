//! What this machine's kernel shows of layers that leave out directories, once the layer of those
//! lies on top. Mounting needs root.

use std::fs::{File, Metadata};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use image::parents;
use rustix::fs::lgetxattr;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::convert::image;
use crate::tar::{Item, archive, directory, file};

/// A mount that nothing but its descriptor leads to, and that ends with it.
struct Mount(OwnedFd);

impl Mount {
    fn new(filesystem: &str, key: &str, value: &Path) -> Self {
        let context = fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_set_string(context.as_fd(), key, value).unwrap();
        fsconfig_set_flag(context.as_fd(), "ro").unwrap();
        fsconfig_create(context.as_fd()).expect("root, and a kernel that mounts this");
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        Self(fsmount(context.as_fd(), flags, MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap())
    }

    fn path(&self) -> PathBuf {
        // The dot leads through the link to the descriptor.
        format!("/proc/self/fd/{}/.", self.0.as_raw_fd()).into()
    }
}

/// The files over each other, the lowest one first, with `look` at their merge.
fn merged(files: &[PathBuf], look: impl FnOnce(&Path)) {
    let mounts: Vec<_> = files.iter().map(|file| Mount::new("erofs", "source", file)).collect();
    let paths: Vec<_> =
        mounts.iter().rev().map(|mount| mount.path().display().to_string()).collect();
    let overlay = Mount::new("overlay", "lowerdir", Path::new(&paths.join(":")));
    look(&overlay.path());
}

fn facts(root: &Path, path: &str) -> Metadata {
    std::fs::symlink_metadata(root.join(path)).unwrap()
}

#[test]
fn kernel_shows_a_directory_that_a_layer_leaves_out_as_the_one_below_has_it() {
    let tmp = Item { mode: 0o1777, ids: [3, 4], mtime: 99, ..directory("tmp") };
    let home = Item { mode: 0o700, ids: [5, 5], ..directory("home/anna") };
    let lower = [
        tmp.xattr("user.note", b"kept"),
        directory("home"),
        home,
        file("tmp/old", b"old"),
        file("tmp/gone", b""),
    ];
    let upper =
        [file("tmp/new", b"new"), file("tmp/.wh.gone", b""), file("home/anna/.profile", b"x")];
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("0"), image(&archive(&lower)).0).unwrap();
    std::fs::write(path("1"), image(&archive(&upper)).0).unwrap();
    let mut files = vec![path("0"), path("1")];
    merged(&files, |root| assert_eq!(facts(root, "tmp").mode() & 0o7777, 0o755, "as it would be"));
    let found = parents::find(&files).unwrap();
    parents::write(&found, File::create_new(path("top")).unwrap()).unwrap();
    files.push(path("top"));
    merged(&files, |root| {
        let tmp = facts(root, "tmp");
        assert_eq!((tmp.mode() & 0o7777, tmp.uid(), tmp.gid(), tmp.mtime()), (0o1777, 3, 4, 99));
        let mut value = [0; 16];
        let length = lgetxattr(root.join("tmp"), "user.note", &mut value).unwrap();
        assert_eq!(&value[..length], b"kept");
        assert_eq!((facts(root, "home").mode() & 0o7777, facts(root, "home").uid()), (0o755, 0));
        let anna = facts(root, "home/anna");
        assert_eq!((anna.mode() & 0o7777, anna.uid()), (0o700, 5));
        let names = std::fs::read_dir(root.join("tmp")).unwrap();
        let mut names: Vec<_> = names.map(|name| name.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["new", "old"], "what is in it is merged as before");
        assert_eq!(std::fs::read(root.join("home/anna/.profile")).unwrap(), b"x");
    });
}
