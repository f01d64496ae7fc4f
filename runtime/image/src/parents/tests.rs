//! Images of layers that leave out directories.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use erofs::Writer;
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::*;
use crate::digest::Digest;
use crate::layer::{self, Expected};

/// A layer's archive: paths, which are directories with a slash at their end, and their modes.
fn archive(entries: &[(&str, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, mode) in entries {
        let kind = if path.ends_with('/') { EntryType::Directory } else { EntryType::Regular };
        let mut entry = EntryBuilder::new_gnu();
        entry.path(path.as_bytes()).entry_type(kind).mode(*mode).unwrap().size(0).unwrap();
        entry.uid(u64::from(*mode) % 8).unwrap().mtime(7).unwrap();
        bytes.extend(entry.finish_bytes());
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Layers as they are in the store, the lowest one first.
fn layers(directory: &Path, all: &[&[(&str, u32)]]) -> Vec<PathBuf> {
    let convert = |(number, entries): (usize, &&[(&str, u32)])| {
        let (archive, path) = (archive(entries), directory.join(number.to_string()));
        let (digest, size) = (Digest::of(&archive), archive.len() as u64);
        let expected = Expected { digest, size, diff_id: None };
        let out = File::create(&path).unwrap();
        layer::convert(&*archive, &expected, out, Options::default()).unwrap();
        path
    };
    all.iter().enumerate().map(convert).collect()
}

/// Paths and modes of what is found for these layers.
fn found(all: &[&[(&str, u32)]]) -> Vec<(String, u16)> {
    let directory = tempfile::tempdir().unwrap();
    let parents = find(&layers(directory.path(), all)).unwrap();
    let shown = |parent: &Parent| {
        let path = String::from_utf8(parent.path.clone()).unwrap();
        let own = parent.meta.uid == u32::from(parent.meta.mode) % 8;
        assert!(own || parent.meta.mode == 0o755, "{path}: whose owner is that?");
        (path, parent.meta.mode)
    };
    parents.iter().map(shown).collect()
}

fn expect(all: &[&[(&str, u32)]], expected: &[(&str, u16)]) {
    let expected: Vec<_> =
        expected.iter().map(|(path, mode)| ((*path).to_owned(), *mode)).collect();
    assert_eq!(found(all), expected, "{all:?}");
}

#[test]
fn directory_that_a_layer_leaves_out_is_as_the_one_below_has_it() {
    expect(&[&[("tmp/", 0o1777)], &[("tmp/x", 0o644)]], &[("tmp", 0o1777)]);
    // However many leave it out, and wherever it lies.
    expect(
        &[&[("a/", 0o700), ("a/b/", 0o750)], &[("a/b/x", 0o600)], &[("y", 0o600)], &[("a/b/z", 0)]],
        &[("a", 0o700), ("a/b", 0o750)],
    );
    // The highest one that says something counts.
    expect(&[&[("tmp/", 0o700)], &[("tmp/", 0o1777)], &[("tmp/x", 0o644)]], &[("tmp", 0o1777)]);
}

#[test]
fn directory_that_is_described_on_top_or_nowhere_stays_as_it_is() {
    expect(&[&[("tmp/", 0o1777)], &[("tmp/", 0o711), ("tmp/x", 0o644)]], &[]);
    expect(&[&[("tmp/", 0o1777)], &[("tmp/x", 0o644)], &[("tmp/", 0o711)]], &[]);
    expect(&[&[("a/b", 0o644)], &[("a/c", 0o644)]], &[]);
    expect(&[&[("tmp/", 0o1777)], &[("x", 0o644)]], &[]);
    expect(&[], &[]);
}

#[test]
fn what_is_above_keeps_what_it_has() {
    expect(
        &[&[("a/", 0o700), ("a/b/", 0o1777)], &[("a/", 0o711), ("a/b/x", 0o644)]],
        &[("a", 0o711), ("a/b", 0o1777)],
    );
    // And is left out where nothing below it needs anything.
    expect(&[&[("a/", 0o700), ("b/", 0o1777)], &[("b/x", 0)]], &[("b", 0o1777)]);
}

#[test]
fn what_was_removed_between_is_not_looked_at() {
    let tmp = ("tmp/", 0o1777);
    expect(&[&[tmp], &[(".wh.tmp", 0)], &[("tmp/x", 0o644)]], &[]);
    expect(&[&[tmp], &[("tmp", 0o644)], &[("tmp/x", 0o644)]], &[]);
    let below = [("a/", 0o755), ("a/b/", 0o700)];
    // What is emptied stays itself, and what was in it is gone.
    expect(&[&below, &[("a/.wh..wh..opq", 0)], &[("a/b/x", 0o644)]], &[("a", 0o755)]);
    expect(&[&below, &[(".wh.a", 0)], &[("a/b/x", 0o644)]], &[]);
    // Nothing comes back that a layer above has removed.
    expect(&[&[tmp], &[("tmp/x", 0o644)], &[(".wh.tmp", 0)]], &[]);
    expect(&[&below, &[("a/b/x", 0o644)], &[(".wh.a", 0)]], &[]);
    expect(&[&below, &[("a/b/x", 0o644)], &[("a/", 0o711), ("a/.wh..wh..opq", 0)]], &[]);
    // One that is only emptied is the same one.
    expect(&[&[tmp], &[("tmp/.wh..wh..opq", 0), ("tmp/x", 0o644)]], &[("tmp", 0o1777)]);
}

#[test]
fn layer_of_the_directories_has_them_with_all_their_attributes() {
    let directory = tempfile::tempdir().unwrap();
    let lower = directory.path().join("lower");
    let mut writer = Writer::new(File::create(&lower).unwrap(), Options::default()).unwrap();
    let mut meta = Meta { mode: 0o2750, uid: 5, gid: 6, ..Meta::default() };
    meta.mtime.seconds = -3;
    meta.xattrs.set(b"user.a", b"b\0c").unwrap();
    writer.directory(b"d", meta.clone()).unwrap();
    writer.whiteout(b"d/gone").unwrap();
    writer.opaque(b"d").unwrap();
    writer.finish().unwrap();
    let upper = layers(directory.path(), &[&[("d/x", 0o644)]]).remove(0);
    let parents = find(&[lower, upper]).unwrap();
    assert_eq!(parents, [Parent { path: b"d".to_vec(), meta }]);
    let mut image = Cursor::new(Vec::new());
    write(&parents, &mut image).unwrap();
    let mut again = Cursor::new(Vec::new());
    write(&parents, &mut again).unwrap();
    assert_eq!(image, again);
    let mut reader = Reader::open(image).unwrap();
    let names = reader.tree(&Limits::default()).unwrap();
    assert_eq!(names.all.len(), 1);
    let inode = reader.inode(names.all[0].nid).unwrap();
    assert_eq!((inode.mode, inode.uid, inode.gid, inode.mtime.seconds), (0o2750, 5, 6, -3));
    assert_eq!(inode.xattrs, [(b"user.a".to_vec(), b"b\0c".to_vec())], "and hides nothing");
    assert!(!inode.implied && !reader.has_implied());
}

#[test]
fn layer_that_can_not_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none");
    let error = find(std::slice::from_ref(&path)).unwrap_err();
    assert!(error.to_string().ends_with("/none"), "{error}");
    std::fs::write(&path, [0; 8192]).unwrap();
    assert!(matches!(find(&[path]).unwrap_err(), ParentsError::Read { .. }));
}
