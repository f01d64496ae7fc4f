//! What erofs-utils say of an image.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::fuzzing::image;
use crate::kernel::paths;
use crate::sample::{Image, file_with, layer, written};
use crate::{Layout, Meta, Mtime, Special, noise};

/// What a program writes; it has to succeed.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}, of erofs-utils: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{err}");
    out + &err
}

/// Runs `use_it` with the path of a file with these bytes.
fn with_file<T>(bytes: &[u8], use_it: impl FnOnce(&str) -> T) -> T {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    use_it(file.path().to_str().unwrap())
}

#[test]
fn fsck_finds_no_error_in_random_trees() {
    let mut checked = 0;
    for number in 7000..7060 {
        let Some((bytes, _, _)) = image(&noise(number, 2500)) else { continue };
        with_file(&bytes, |file| output("fsck.erofs", &[file]));
        checked += 1;
    }
    assert!(checked > 40);
}

#[test]
fn fsck_finds_no_error_in_a_tree_with_everything() {
    for layout in [Layout::Plain, Layout::Inline] {
        let bytes = written(layout, layer);
        with_file(&bytes, |file| output("fsck.erofs", &[file]));
    }
}

#[test]
fn dump_shows_the_superblock_and_an_inode() {
    let bytes = written(Layout::Plain, layer);
    with_file(&bytes, |file| {
        let superblock = output("dump.erofs", &["-s", file]);
        for line in [
            "magic number:                      0xE0F5E1E2",
            "root nid:                          2",
            "features:                          sb_csum mtime chunked_file",
            "UUID:                              07070707-0707-0707-0707-070707070707",
        ] {
            assert!(superblock.contains(line), "{line}: {superblock}");
        }
        let inode = output("dump.erofs", &["--path=/usr/bin/tool", file]);
        for word in ["Size: 10000", "Links: 2", "Uid: 2147483648", "Access: 0755"] {
            assert!(inode.contains(word), "{word}: {inode}");
        }
    });
}

/// A directory with something of all that erofs-utils 1.5 extract rightly: no holes, no hard links.
fn directory() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    fs::create_dir_all(at("a/b/c/d")).unwrap();
    fs::create_dir(at("many")).unwrap();
    for number in 0..500 {
        let name = format!("many/{number}-{}", "n".repeat(number % 200));
        fs::write(at(&name), vec![b'c'; number * 17]).unwrap();
    }
    for size in [0, 1, 4095, 4096, 4097, 8192, 1 << 20] {
        fs::write(at(&format!("a/b/{size}")), vec![b's'; size]).unwrap();
    }
    symlink("a/b", at("link")).unwrap();
    symlink("l".repeat(4000), at("long-link")).unwrap();
    for (path, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        ("character", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("block", FileType::BlockDevice, rustix::fs::makedev(259, 70_000)),
    ] {
        mknodat(CWD, at(path), kind, Mode::from_raw_mode(0o640), device).unwrap();
    }
    fs::write(at("owned"), "text").unwrap();
    chown(at("owned"), Some(70_000), Some(4_000_000_000)).unwrap();
    fs::set_permissions(at("owned"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(at("a/b"), fs::Permissions::from_mode(0o1770)).unwrap();
    root
}

/// Writes all of a directory.
fn add(writer: &mut Image<'_>, root: &Path) {
    for path in paths(root) {
        let whole = root.join(std::ffi::OsStr::from_bytes(&path));
        let found = fs::symlink_metadata(&whole).unwrap();
        let meta = Meta {
            mode: u16::try_from(found.mode() & 0o7777).unwrap(),
            uid: found.uid(),
            gid: found.gid(),
            mtime: Mtime {
                seconds: found.mtime(),
                nanoseconds: u32::try_from(found.mtime_nsec()).unwrap(),
            },
            ..Meta::default()
        };
        let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
        let kind = found.file_type();
        if kind.is_dir() {
            writer.directory(&path, meta).unwrap();
        } else if kind.is_symlink() {
            let target = fs::read_link(&whole).unwrap();
            writer.symlink(&path, target.as_os_str().as_bytes(), meta).unwrap();
        } else if kind.is_file() {
            let path = str::from_utf8(&path).unwrap();
            file_with(writer, path, &fs::read(&whole).unwrap(), meta);
        } else {
            let special = match kind {
                kind if kind.is_fifo() => Special::Fifo,
                kind if kind.is_socket() => Special::Socket,
                kind if kind.is_char_device() => Special::Character { major, minor },
                _ => Special::Block { major, minor },
            };
            writer.special(&path, special, meta).unwrap();
        }
    }
}

/// All that can be seen of a file, but for its place on a disk.
fn description(path: &Path) -> String {
    let meta = fs::symlink_metadata(path).unwrap();
    let content = match meta.file_type() {
        kind if kind.is_file() => fs::read(path).unwrap(),
        kind if kind.is_symlink() => fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let size = if meta.is_dir() { 0 } else { meta.len() };
    let owner = (meta.uid(), meta.gid());
    let time = (meta.mtime(), meta.mtime_nsec());
    format!("{:o} {owner:?} {size} {:x} {time:?} {content:?}", meta.mode(), meta.rdev())
}

#[test]
fn what_is_extracted_is_what_is_extracted_of_an_image_by_mkfs() {
    let directory = directory();
    let theirs = tempfile::NamedTempFile::new().unwrap();
    let theirs = theirs.path().to_str().unwrap();
    output("mkfs.erofs", &[theirs, directory.path().to_str().unwrap()]);
    let extract = |image: &str| {
        let to = tempfile::tempdir().unwrap();
        let option = format!("--extract={}", to.path().to_str().unwrap());
        output("fsck.erofs", &[&option, "--overwrite", image]);
        to
    };
    let theirs = extract(theirs);
    for layout in [Layout::Plain, Layout::Inline] {
        let bytes = written(layout, |writer| add(writer, directory.path()));
        let ours = with_file(&bytes, extract);
        let all = paths(ours.path());
        assert_eq!(all, paths(theirs.path()));
        assert_eq!(all, paths(directory.path()));
        for path in all {
            let path = std::ffi::OsStr::from_bytes(&path);
            let [ours, theirs] = [&ours, &theirs].map(|root| description(&root.path().join(path)));
            assert_eq!(ours, theirs, "{}", path.display());
        }
    }
}
