//! Archives by GNU tar, against what it extracts of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::convert::tree_of;
use crate::reader::{Found, Kind, Tree};

/// A directory with what tar can keep in all its formats: no name is longer than 99 bytes.
fn directory() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    fs::create_dir_all(at("a/b/c/d")).unwrap();
    fs::create_dir(at("many")).unwrap();
    for number in 0..300 {
        fs::write(at(&format!("many/{number}")), vec![b'c'; number * 17]).unwrap();
    }
    for size in [0, 1, 511, 512, 513, 4096, 10_000, 1 << 20] {
        fs::write(at(&format!("a/b/{size}")), vec![b's'; size]).unwrap();
    }
    symlink("../elsewhere", at("a/link")).unwrap();
    fs::hard_link(at("many/7"), at("a/seven")).unwrap();
    for (path, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        ("character", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("block", FileType::BlockDevice, rustix::fs::makedev(259, 70_000)),
    ] {
        mknodat(CWD, at(path), kind, Mode::from_raw_mode(0o640), device).unwrap();
    }
    fs::write(at("owned"), "text").unwrap();
    chown(at("owned"), Some(70_000), Some(1000)).unwrap();
    fs::set_permissions(at("owned"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(at("a/b"), fs::Permissions::from_mode(0o1770)).unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    for number in 0..40 {
        sparse.write_all_at(b"some data", number * 200_000 + 4096).unwrap();
    }
    root
}

fn tar(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(arguments).output().expect("GNU tar");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}");
    output.stdout
}

/// All paths below a directory, without it.
fn paths(root: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec());
            if path.is_dir() && !path.is_symlink() {
                left.push(path);
            }
        }
    }
    found.sort();
    found
}

fn expect_same(path: &Path, Found { entry, .. }: &Found, times: bool) {
    let found = fs::symlink_metadata(path).unwrap();
    let name = path.display();
    assert_eq!(u32::from(entry.mode), found.mode() & 0o7777, "{name}");
    assert_eq!(entry.ids, [found.uid(), found.gid()], "{name}");
    if times {
        let time = (entry.mtime.seconds, i64::from(entry.mtime.nanoseconds));
        assert_eq!(time, (found.mtime(), found.mtime_nsec()), "{name}");
    }
    let kind = found.file_type();
    match &entry.kind {
        Kind::Directory => assert!(kind.is_dir(), "{name}"),
        Kind::Symlink(target) => {
            assert_eq!(target, fs::read_link(path).unwrap().as_os_str().as_bytes());
        }
        Kind::Special(erofs::Special::Fifo) => assert!(kind.is_fifo(), "{name}"),
        Kind::Special(erofs::Special::Character { major, minor }) => {
            assert!(kind.is_char_device(), "{name}");
            assert_eq!(found.rdev(), rustix::fs::makedev(*major, *minor));
        }
        Kind::Special(erofs::Special::Block { major, minor }) => {
            assert!(kind.is_block_device(), "{name}");
            assert_eq!(found.rdev(), rustix::fs::makedev(*major, *minor));
        }
        Kind::Special(erofs::Special::Socket) => panic!("{name}: tar has no sockets"),
        Kind::File { size, blocks } => expect_content(&fs::read(path).unwrap(), *size, blocks),
    }
    assert_eq!(u64::from(entry.links), found.nlink(), "{name}");
}

fn expect_content(content: &[u8], size: u64, blocks: &BTreeMap<u64, Vec<u8>>) {
    assert_eq!(content.len() as u64, size);
    let empty = vec![0; 4096];
    for (number, expected) in content.chunks(4096).enumerate() {
        let block = blocks.get(&(number as u64)).unwrap_or(&empty);
        assert!(block.starts_with(expected), "block {number}");
    }
}

/// Compares the image of an archive with what tar makes of it.
fn compare(archive: &[u8], times: bool) -> Tree {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), archive).unwrap();
    let to = tempfile::tempdir().unwrap();
    let (from, into) = (file.path().to_str().unwrap(), to.path().to_str().unwrap());
    tar(&["-x", "-p", "--numeric-owner", "-f", from, "-C", into]);
    let tree = tree_of(archive);
    let ours: Vec<_> = tree.keys().skip(1).cloned().collect();
    assert_eq!(ours, paths(to.path()));
    for (path, found) in tree.iter().skip(1) {
        expect_same(&to.path().join(std::ffi::OsStr::from_bytes(path)), found, times);
    }
    tree
}

#[test]
fn every_format_of_tar_becomes_what_tar_extracts() {
    let root = directory();
    let folder = root.path().to_str().unwrap();
    for format in ["v7", "ustar", "oldgnu", "gnu", "posix"] {
        let own = format!("--format={format}");
        let all = ["-c", &own, "--numeric-owner", "--sort=name", "-C", folder];
        // The oldest format has no devices.
        let without = if format == "v7" {
            &["--exclude=./fifo", "--exclude=./character", "--exclude=./block", "."][..]
        } else {
            &["."]
        };
        let tree = compare(&tar(&[&all[..], without].concat()), true);
        assert!(tree.len() > 300);
    }
}

#[test]
fn sparse_files_of_tar_become_what_tar_extracts() {
    let root = directory();
    let folder = root.path().to_str().unwrap();
    for format in [
        &["--format=gnu", "-S"][..],
        &["--format=oldgnu", "-S"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
    ] {
        let archive = tar(&[&["-c"], format, &["-C", folder, "sparse", "owned"]].concat());
        assert!(archive.len() < 2 << 20, "{format:?}: not stored as sparse");
        compare(&archive, true);
    }
}

#[test]
fn long_names_of_tar_become_what_tar_extracts() {
    let root = tempfile::tempdir().unwrap();
    let deep = root.path().join("d".repeat(200)).join("e".repeat(250));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("n".repeat(255)), "deep").unwrap();
    symlink("t".repeat(3000), root.path().join("link")).unwrap();
    let folder = root.path().to_str().unwrap();
    for format in ["--format=gnu", "--format=posix"] {
        let tree = compare(&tar(&["-c", format, "-C", folder, "."]), true);
        assert_eq!(tree.len(), 5);
    }
}
