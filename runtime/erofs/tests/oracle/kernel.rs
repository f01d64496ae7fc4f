//! What the kernel of this machine sees in an image.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::fuzzing::{Found, Kind, Tree, image, read};
use crate::sample::{file, layer, written};
use crate::{Layout, Special, noise};

/// A mount that nothing but its descriptor leads to, and that ends with it.
struct Mount(OwnedFd);

impl Mount {
    fn new(filesystem: &str, options: &[(&str, &Path)]) -> Self {
        let context = fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        for (key, value) in options {
            fsconfig_set_string(context.as_fd(), *key, *value).unwrap();
        }
        fsconfig_set_flag(context.as_fd(), "ro").unwrap();
        fsconfig_create(context.as_fd()).expect("root, and a kernel that mounts this");
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        Self(fsmount(context.as_fd(), flags, MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap())
    }

    fn of_image(bytes: &[u8]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        Self::new("erofs", &[("source", file.path())])
    }

    fn path(&self) -> PathBuf {
        // The dot leads through the link to the descriptor.
        format!("/proc/self/fd/{}/.", self.0.as_raw_fd()).into()
    }
}

/// All paths below a directory, as in a [`Tree`].
pub(crate) fn paths(root: &Path) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut next = 0;
    while let Some(path) = all.get(next).cloned() {
        next += 1;
        let whole = root.join(OsStr::from_bytes(&path));
        if fs::symlink_metadata(&whole).unwrap().is_dir() {
            let prefix = if path.is_empty() { path } else { [&path[..], b"/"].concat() };
            for entry in fs::read_dir(&whole).unwrap() {
                all.push([&prefix, entry.unwrap().file_name().as_bytes()].concat());
            }
        }
    }
    all.sort();
    all
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Result<Vec<u8>, rustix::io::Errno>> {
    let mut names = vec![0; 1 << 16];
    let len = llistxattr(path, &mut names[..]).unwrap();
    let names = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 16];
        let len = lgetxattr(path, name, &mut value[..])?;
        value.truncate(len);
        Ok(value)
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Fails if the kernel sees something else at a path.
fn expect_same(path: &Path, Found { entry, .. }: &Found) {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let special = |special| match special {
        Special::Fifo => kind.is_fifo(),
        Special::Socket => kind.is_socket(),
        Special::Character { .. } => kind.is_char_device(),
        Special::Block { .. } => kind.is_block_device(),
    };
    match &entry.kind {
        Kind::Directory => assert!(kind.is_dir()),
        Kind::Symlink(target) => {
            assert_eq!(fs::read_link(path).unwrap().as_os_str().as_bytes(), target);
            assert_eq!(meta.len(), target.len() as u64);
        }
        Kind::File { size, blocks } => {
            assert!(kind.is_file());
            assert_eq!(meta.len(), *size);
            expect_content(path, *size, blocks);
        }
        Kind::Special(expected) => {
            assert!(special(*expected), "{expected:?}");
            if let Special::Character { major, minor } | Special::Block { major, minor } = expected
            {
                let number = rustix::fs::makedev(*major, *minor);
                assert_eq!(meta.rdev(), number);
            }
        }
    }
    assert_eq!(meta.mode() & 0o7777, entry.mode.into());
    let shown = |id: u32| if id == u32::MAX { 65_534 } else { id };
    assert_eq!([meta.uid(), meta.gid()], entry.ids.map(shown));
    assert_eq!(meta.mtime(), entry.mtime.seconds);
    assert_eq!(meta.mtime_nsec(), entry.mtime.nanoseconds.into());
    assert_eq!(meta.nlink(), entry.links.into());
    expect_xattrs(
        path,
        entry.xattrs.clone(),
        matches!(entry.kind, Kind::File { .. } | Kind::Directory),
    );
}

fn expect_content(path: &Path, size: u64, blocks: &BTreeMap<u64, Vec<u8>>) {
    let file = fs::File::open(path).unwrap();
    let whole: Vec<u64> = (0..size.div_ceil(4096)).collect();
    let some = || {
        let near = blocks.keys().flat_map(|number| [number.saturating_sub(1), *number, number + 1]);
        near.chain([0, size.saturating_sub(1) / 4096]).collect()
    };
    // Nobody waits for the whole of a large hole.
    let looked_at = if whole.len() < 5000 { whole } else { some() };
    for number in looked_at {
        let mut block = vec![0; 4096];
        let start = number * 4096;
        let len = file.read_at(&mut block, start).unwrap() as u64;
        assert_eq!(len, size.saturating_sub(start).min(4096));
        let expected = blocks.get(&number).cloned().unwrap_or_else(|| vec![0; 4096]);
        assert!(block == expected, "block {number} of {}", path.display());
    }
}

/// Fails if there are other attributes. Linux does not show all that an image has: no access control
/// list that is none, and no `user.` of what is neither file nor directory.
fn expect_xattrs(path: &Path, mut expected: BTreeMap<Vec<u8>, Vec<u8>>, plain: bool) {
    let mut found = xattrs(path);
    let shown = |name: &Vec<u8>| plain || !name.starts_with(b"user.");
    expected.retain(|name, _| shown(name));
    found.retain(|name, _| shown(name));
    found.retain(|name, value| {
        let hidden = name.starts_with(b"system.") && value.is_err();
        if hidden {
            expected.remove(name);
        }
        !hidden
    });
    let found: BTreeMap<_, _> =
        found.into_iter().map(|(name, value)| (name, value.unwrap())).collect();
    assert_eq!(found, expected);
}

fn expect_tree(bytes: &[u8], tree: &Tree) {
    let mount = Mount::of_image(bytes);
    let root = mount.path();
    assert_eq!(paths(&root), tree.keys().cloned().collect::<Vec<_>>());
    let mut numbers = BTreeMap::new();
    for (path, found) in tree {
        let whole = root.join(OsStr::from_bytes(path));
        expect_same(&whole, found);
        let number = fs::symlink_metadata(&whole).unwrap().ino();
        assert_eq!(*numbers.entry(number).or_insert(&found.first), &found.first);
    }
}

#[test]
fn the_kernel_sees_random_trees_as_they_were_written() {
    let mut mounted = 0;
    for number in 5000..5200 {
        let Some((bytes, _, Some(model))) = image(&noise(number, 2500)) else { continue };
        expect_tree(&bytes, &model.tree());
        mounted += 1;
    }
    assert!(mounted > 100);
}

#[test]
fn the_kernel_sees_a_tree_with_everything_as_it_was_written() {
    for layout in [Layout::Plain, Layout::Inline] {
        let bytes = written(layout, layer);
        expect_tree(&bytes, &read(&bytes).unwrap());
    }
}

#[test]
fn overlayfs_hides_what_whiteouts_and_opaque_directories_hide() {
    let lower = written(Layout::Plain, |writer| {
        for path in ["kept", "gone", "dir/kept", "dir/gone", "replaced/gone", "opaque/gone"] {
            file(writer, path, b"lower");
        }
    });
    let upper = written(Layout::Plain, |writer| {
        writer.whiteout(b"gone").unwrap();
        writer.whiteout(b"dir/gone").unwrap();
        writer.whiteout(b"replaced").unwrap();
        file(writer, "replaced/new", b"upper");
        writer.opaque(b"opaque").unwrap();
        // There is no lower directory of this name.
        writer.whiteout(b"alone/gone").unwrap();
    });
    let mounts = [Mount::of_image(&upper), Mount::of_image(&lower)];
    let [upper, lower] = mounts.each_ref().map(Mount::path);
    let overlay = Mount::new("overlay", &[("lowerdir+", &upper), ("lowerdir+", &lower)]);
    let shown = paths(&overlay.path());
    let expected = ["", "alone", "dir", "dir/kept", "kept", "opaque", "replaced", "replaced/new"];
    assert_eq!(shown, expected.map(|path| path.as_bytes().to_vec()));
}
