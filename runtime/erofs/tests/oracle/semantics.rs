//! What becomes of entries that meet each other, and of those that are refused.

use std::io::{self, Cursor, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use crate::fuzzing::{Entry, Kind, Tree, read};
use crate::sample::{
    Image, file, file_with, layer, mode, sparse, with_options, with_xattrs, written,
};
use crate::{Error, Layout, Limits, Meta, Mtime, Options, Special, Writer};

const WHITEOUT: Kind = Kind::Special(Special::Character { major: 0, minor: 0 });

fn tree(calls: impl FnOnce(&mut Image<'_>)) -> Tree {
    read(&written(Layout::Plain, calls)).unwrap()
}

fn entry<'a>(tree: &'a Tree, path: &str) -> &'a Entry {
    &tree.get(path.as_bytes()).unwrap_or_else(|| panic!("no {path}")).entry
}

fn names(tree: &Tree) -> Vec<&str> {
    tree.keys().skip(1).map(|path| str::from_utf8(path).unwrap()).collect()
}

/// The content of a file of at most one block.
fn content(tree: &Tree, path: &str) -> Vec<u8> {
    let Kind::File { size, blocks } = &entry(tree, path).kind else { panic!("{path} is no file") };
    let mut content = blocks.get(&0).cloned().unwrap_or_else(|| vec![0; 4096]);
    content.truncate(usize::try_from(*size).unwrap());
    content
}

fn overlay(tree: &Tree, path: &str) -> [Option<Vec<u8>>; 2] {
    let xattrs = &entry(tree, path).xattrs;
    [&b"trusted.overlay.opaque"[..], b"trusted.overlay.origin"]
        .map(|name| xattrs.get(name).cloned())
}

#[test]
fn the_last_entry_with_a_path_counts() {
    let tree = tree(|writer| {
        file(writer, "a", b"first");
        file(writer, "a", b"second");
        writer.directory(b"dir", mode(0o700)).unwrap();
        file(writer, "dir/inside", b"");
        writer.directory(b"dir", mode(0o750)).unwrap();
        file(writer, "gone/inside/deep", b"");
        writer.symlink(b"gone", b"target", mode(0o777)).unwrap();
        file(writer, "made", b"a file");
        writer.directory(b"made", mode(0o711)).unwrap();
    });
    assert_eq!(names(&tree), ["a", "dir", "dir/inside", "gone", "made"]);
    assert_eq!(content(&tree, "a"), b"second");
    assert_eq!(entry(&tree, "dir").mode, 0o750);
    assert_eq!(entry(&tree, "made").kind, Kind::Directory);
    assert_eq!(entry(&tree, "made").mode, 0o711);
    assert_eq!(entry(&tree, "").links, 4);
}

#[test]
fn missing_parents_are_made_and_described_later() {
    let tree = tree(|writer| {
        file(writer, "./a/b/../c//file", b"");
        file(writer, "/../../etc/passwd", b"");
        let mtime = Mtime { seconds: -5, nanoseconds: 2_000_000_000 };
        let meta = Meta { mode: 0o171_777, uid: 7, gid: u32::MAX, mtime, ..Meta::default() };
        writer.directory(b"a", meta).unwrap();
        writer.directory(b"./", mode(0o555)).unwrap();
    });
    assert_eq!(names(&tree), ["a", "a/c", "a/c/file", "etc", "etc/passwd"]);
    let made = entry(&tree, "a/c");
    assert_eq!((made.mode, made.ids, made.mtime), (0o755, [0, 0], Mtime::default()));
    let described = entry(&tree, "a");
    assert_eq!((described.mode, described.ids), (0o1777, [7, u32::MAX]));
    assert_eq!(described.mtime, Mtime { seconds: -5, nanoseconds: 999_999_999 });
    assert_eq!(entry(&tree, "").mode, 0o555);
}

#[test]
fn links_are_never_followed() {
    let tree = tree(|writer| {
        writer.symlink(b"link", b"/etc", mode(0o777)).unwrap();
        file(writer, "file", b"");
        for below in ["link/passwd", "file/x", "link/a/b/c"] {
            let refused = writer.file(below.as_bytes(), mode(0o644), 0);
            assert!(matches!(refused, Err(Error::NotADirectory { .. })), "{refused:?}");
        }
        assert!(matches!(writer.opaque(b"link"), Err(Error::NotADirectory { .. })));
        assert!(matches!(writer.whiteout(b"link/x"), Err(Error::NotADirectory { .. })));
        let missing = writer.hard_link(b"x", b"link/passwd");
        assert!(matches!(missing, Err(Error::LinkTargetMissing { .. })));
    });
    assert_eq!(names(&tree), ["file", "link"]);
}

#[test]
fn the_root_is_always_a_directory() {
    let tree = tree(|writer| {
        for root in [&b""[..], b"/", b".", b"a/.."] {
            let refused = writer.file(root, mode(0o644), 0);
            assert!(matches!(refused, Err(Error::Path { .. })));
            assert!(matches!(writer.whiteout(root), Err(Error::Path { .. })));
            assert!(matches!(writer.symlink(root, b"x", mode(0)), Err(Error::Path { .. })));
        }
        file(writer, "file", b"");
        assert!(matches!(writer.hard_link(b"/", b"file"), Err(Error::Path { .. })));
        writer.opaque(b"/").unwrap();
    });
    assert_eq!(names(&tree), ["file"]);
    assert_eq!(overlay(&tree, ""), [Some(b"y".to_vec()), None]);
}

#[test]
fn hard_links_are_names_of_one_inode() {
    let tree = tree(|writer| {
        file(writer, "a", b"content");
        for name in ["b", "c", "d/e"] {
            writer.hard_link(name.as_bytes(), b"/./a").unwrap();
        }
        writer.hard_link(b"b", b"b").unwrap();
        writer.hard_link(b"f", b"d/e").unwrap();
        // A name with another inode takes nothing from the others.
        file(writer, "c", b"other");
        // What only the link keeps: its directory is replaced by it.
        file(writer, "g/h", b"kept");
        writer.hard_link(b"g", b"g/h").unwrap();
        writer.symlink(b"s", b"a", mode(0o777)).unwrap();
        writer.hard_link(b"s2", b"s").unwrap();
    });
    assert_eq!(names(&tree), ["a", "b", "c", "d", "d/e", "f", "g", "s", "s2"]);
    for name in ["a", "b", "d/e", "f"] {
        assert_eq!((content(&tree, name), entry(&tree, name).links), (b"content".to_vec(), 4));
        assert_eq!(tree[name.as_bytes()].first, b"a");
    }
    assert_eq!((content(&tree, "c"), entry(&tree, "c").links), (b"other".to_vec(), 1));
    assert_eq!((content(&tree, "g"), entry(&tree, "g").links), (b"kept".to_vec(), 1));
    assert_eq!(entry(&tree, "s2").kind, Kind::Symlink(b"a".to_vec()));
}

#[test]
fn hard_links_that_lead_nowhere_are_refused() {
    let tree = tree(|writer| {
        writer.directory(b"dir", mode(0o755)).unwrap();
        writer.whiteout(b"gone").unwrap();
        for target in [&b"missing"[..], b"gone", b"dir/missing", b"missing/missing"] {
            let refused = writer.hard_link(b"link", target);
            assert!(matches!(refused, Err(Error::LinkTargetMissing { .. })), "{refused:?}");
        }
        for target in [&b"dir"[..], b"/"] {
            let refused = writer.hard_link(b"link", target);
            assert!(matches!(refused, Err(Error::LinkToDirectory { .. })), "{refused:?}");
        }
    });
    assert_eq!(names(&tree), ["dir", "gone"]);
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let tree = tree(|writer| {
        file(writer, "own", b"");
        writer.whiteout(b"own").unwrap();
        writer.whiteout(b"later").unwrap();
        file(writer, "later", b"");
        file(writer, "own-dir/file", b"");
        writer.whiteout(b"own-dir").unwrap();
        writer.whiteout(b"later-dir").unwrap();
        writer.directory(b"later-dir", mode(0o700)).unwrap();
        writer.whiteout(b"made").unwrap();
        file(writer, "made/file", b"");
        writer.whiteout(b"dir/gone").unwrap();
        writer.whiteout(b"dir/gone").unwrap();
        writer.whiteout(b"was-whiteout/x").unwrap();
        file(writer, "was-whiteout/x", b"");
    });
    for name in ["own", "later", "made/file", "own-dir/file", "was-whiteout/x"] {
        assert_eq!(content(&tree, name), b"");
    }
    for name in ["own-dir", "later-dir", "made"] {
        assert_eq!(overlay(&tree, name), [Some(b"y".to_vec()), None], "{name}");
    }
    assert_eq!(entry(&tree, "dir/gone").kind, WHITEOUT);
    assert_eq!(overlay(&tree, "dir"), [None, Some(Vec::new())]);
    assert_eq!(overlay(&tree, "was-whiteout"), [None, None]);
    assert_eq!(overlay(&tree, ""), [None, None]);
}

#[test]
fn a_directory_with_a_whiteout_says_so() {
    let tree = tree(|writer| {
        writer.whiteout(b"gone").unwrap();
        writer.whiteout(b"hidden/gone").unwrap();
        writer.opaque(b"hidden").unwrap();
        // The same by the attributes and the device that stand for both.
        let xattrs = [
            ("trusted.overlay.opaque", &b"y"[..]),
            ("trusted.overlay.origin", b"x"),
            ("user.a", b"b"),
        ];
        writer.directory(b"by-hand", with_xattrs(0o755, &xattrs)).unwrap();
        let device = Special::Character { major: 0, minor: 0 };
        writer.special(b"by-hand/gone", device, mode(0)).unwrap();
        // What an entry said before does not count any more, but that it is opaque.
        writer.directory(b"by-hand", mode(0o700)).unwrap();
        let other = [("trusted.overlay.opaque", &b"x"[..]), ("trusted.overlay.origin", b"x")];
        writer.directory(b"other", with_xattrs(0o755, &other)).unwrap();
    });
    assert_eq!(overlay(&tree, ""), [None, Some(Vec::new())]);
    for name in ["hidden", "by-hand"] {
        assert_eq!(overlay(&tree, name), [Some(b"y".to_vec()), Some(Vec::new())], "{name}");
    }
    assert_eq!(entry(&tree, "by-hand").xattrs.len(), 2);
    assert_eq!(overlay(&tree, "other"), [None, None]);
}

#[test]
fn impossible_targets_and_devices_are_refused() {
    let tree = tree(|writer| {
        for target in [&b""[..], b"a\0b", &[b'a'; 4096]] {
            let refused = writer.symlink(b"link", target, mode(0o777));
            assert!(matches!(refused, Err(Error::SymlinkTarget { .. })));
        }
        for device in [
            Special::Character { major: 4096, minor: 0 },
            Special::Block { major: 0, minor: 1 << 20 },
        ] {
            let refused = writer.special(b"device", device, mode(0));
            assert!(matches!(refused, Err(Error::Device { .. })));
        }
    });
    assert_eq!(names(&tree), [""; 0]);
}

#[test]
fn a_file_has_the_bytes_that_were_announced() {
    let tree = tree(|writer| {
        file(writer, "file", b"old");
        let mut short = writer.file(b"file", mode(0), 10).unwrap();
        short.write_all(&[1; 9]).unwrap();
        assert!(matches!(short.finish(), Err(Error::Length { size: 10 })));
        let mut long = writer.file(b"file", mode(0), 10).unwrap();
        long.hole(5).unwrap();
        let refused = long.write_all(&[1; 6]).unwrap_err();
        assert!(matches!(Error::from(refused), Error::Length { size: 10 }));
        assert!(matches!(long.hole(6), Err(Error::Length { .. })));
        assert!(matches!(long.hole(u64::MAX), Err(Error::Length { .. })));
        drop(long);
        let huge = writer.file(b"file", mode(0), (1 << 44) + 1);
        assert!(matches!(huge, Err(Error::Limit { what: "bytes in one file", .. })));
        drop(writer.file(b"new", mode(0), 1).unwrap());
        let mut pieces = writer.file(b"pieces", mode(0), 10).unwrap();
        for byte in 0..10 {
            pieces.write_all(&[byte]).unwrap();
        }
        pieces.finish().unwrap();
    });
    assert_eq!(names(&tree), ["file", "pieces"]);
    assert_eq!(content(&tree, "file"), b"old");
    assert_eq!(content(&tree, "pieces"), (0..10).collect::<Vec<_>>());
}

/// Blocks that a file takes with its inode, besides an empty image.
fn blocks(layout: Layout, calls: impl FnOnce(&mut Image<'_>)) -> usize {
    let sizes = [written(layout, |_| {}), written(layout, calls)].map(|bytes| bytes.len() / 4096);
    sizes[1] - sizes[0]
}

#[test]
fn holes_take_no_blocks() {
    const GIB: u64 = 1 << 30;
    let taken = |size, data: &[(u64, &[u8])]| {
        blocks(Layout::Inline, |writer| sparse(writer, "f", size, data))
    };
    assert_eq!(taken(3_000_000, &[]), 0);
    assert_eq!(taken(3_000_000, &[(1_000_000, b"x")]), 1);
    assert_eq!(taken(3_000_000, &[(0, b"x"), (2_999_999, b"x")]), 2);
    // The hole has no whole block: there is no map, and the whole is in two blocks.
    assert_eq!(taken(8192, &[(0, b"x"), (8191, b"x")]), 2);
    assert_eq!(taken(8192, &[(0, &[1; 4000]), (4200, b"x")]), 2);
    // 2 MiB of addresses for chunks of 4 KiB would be too many: 1 MiB for those of 8 KiB.
    assert_eq!(taken(2 * GIB, &[(GIB, b"x")]), 256 + 2);
    // Many short holes are one.
    let many = blocks(Layout::Plain, |writer| {
        let mut file = writer.file(b"f", mode(0o644), 1 << 20).unwrap();
        (0..1 << 10).for_each(|_| file.hole(1 << 10).unwrap());
        file.finish().unwrap();
    });
    assert_eq!(many, 0);
}

#[test]
fn content_around_holes_is_where_it_was_written() {
    let data: [(u64, &[u8]); 4] =
        [(5, b"a"), (4095, b"bc"), (20_480, &[7; 8192]), (5_000_000_000, b"end")];
    let tree = tree(|writer| sparse(writer, "f", 5_000_000_003, &data));
    let Kind::File { size, blocks } = &entry(&tree, "f").kind else { panic!() };
    assert_eq!(*size, 5_000_000_003);
    let numbers: Vec<_> = blocks.keys().copied().collect();
    assert_eq!(numbers, [0, 1, 5, 6, 1_220_703]);
    assert_eq!((blocks[&0][5], blocks[&0][4095], blocks[&1][0]), (b'a', b'b', b'c'));
    assert_eq!(blocks[&1_220_703][512..515], *b"end");
}

#[test]
fn tails_follow_inodes_only_where_they_may() {
    let taken = |layout, size: usize| blocks(layout, |writer| file(writer, "f", &vec![1; size]));
    let sizes = [0, 1, 2048, 2049, 4096, 4097, 4096 + 2049];
    assert_eq!(sizes.map(|size| taken(Layout::Plain, size)), [0, 1, 1, 1, 1, 2, 2]);
    assert_eq!(sizes.map(|size| taken(Layout::Inline, size)), [0, 0, 0, 1, 1, 1, 2]);
}

#[test]
fn tails_beyond_their_limit_get_blocks() {
    let limits = Limits { tails: 4000, ..Limits::default() };
    let options = Options { layout: Layout::Inline, limits, ..Options::default() };
    let image = with_options(options, |writer| {
        for name in ["a", "b", "c"] {
            file(writer, name, &[b'x'; 1500]);
        }
        // A tail that is not used any more makes room.
        file(writer, "a", b"");
        file(writer, "d", &[b'x'; 1500]);
    });
    // Superblock, the tail of c, and the metadata with two tails.
    assert_eq!(image.len() / 4096, 3);
    let tree = read(&image).unwrap();
    for name in ["b", "c", "d"] {
        assert_eq!(content(&tree, name), [b'x'; 1500]);
    }
}

#[test]
fn each_limit_refuses_what_is_beyond_it_and_says_so() {
    type Calls = fn(&mut Image<'_>) -> Result<(), Error>;
    let entries: Calls = |writer| writer.directory(b"a/b/c", mode(0));
    let names: Calls = |writer| writer.symlink(b"four", b"seven..", mode(0o777));
    let xattrs: Calls = |writer| {
        let meta = with_xattrs(0, &[("user.abc", b"defghijk")]);
        writer.directory(b"a", meta.clone())?;
        writer.directory(b"a", meta)
    };
    let holes: Calls = |writer| {
        sparse_file(writer, &[1, 4095, 4096, 4096])?;
        sparse_file(writer, &[1, 4095 + 4096, 4096, 8192])
    };
    let image: Calls = |writer| {
        let mut file = writer.file(b"f", mode(0), 3 * 4096)?;
        file.write_all(&[1; 3 * 4096])?;
        file.finish()
    };
    let at = |limits| Options { limits, ..Options::default() };
    let none = Limits::default();
    let check = |calls: Calls, what: &str, limit: u64, limits: fn(u64, Limits) -> Limits| {
        let none = Limits::default();
        with_options(at(limits(limit, none)), |writer| calls(writer).unwrap());
        with_options(at(limits(limit - 1, none)), |writer| {
            let refused = calls(writer).unwrap_err();
            assert!(
                matches!(refused, Error::Limit { what: found, limit: at } if found == what && at == limit - 1),
                "{refused}"
            );
        });
    };
    check(entries, "entries", 3, |entries, all| Limits { entries, ..all });
    check(names, "bytes of names", 11, |names, all| Limits { names, ..all });
    check(xattrs, "bytes of extended attributes", 16, |xattrs, all| Limits { xattrs, ..all });
    check(holes, "holes", 2, |holes, all| Limits { holes, ..all });
    let with_room_for = |blocks: u64| {
        let mut bytes = Vec::new();
        let limits = Limits { image: blocks * 4096, ..none };
        let mut writer = Writer::new(Cursor::new(&mut bytes), at(limits)).unwrap();
        image(&mut writer).and_then(|()| writer.finish())
    };
    assert_eq!(with_room_for(5 + 1).unwrap().blocks, 5);
    for blocks in 1..5 {
        let refused = with_room_for(blocks).unwrap_err();
        assert!(matches!(refused, Error::Limit { what: "bytes", .. }), "{blocks}: {refused}");
    }
}

/// A file of data and holes in turns.
fn sparse_file(writer: &mut Image<'_>, lengths: &[u16]) -> Result<(), Error> {
    let size = lengths.iter().map(|len| u64::from(*len)).sum();
    let mut file = writer.file(b"sparse", mode(0), size)?;
    for pair in lengths.chunks(2) {
        file.write_all(&vec![1; pair[0].into()])?;
        file.hole(pair[1].into())?;
    }
    file.finish()
}

#[test]
fn what_is_removed_counts_no_more() {
    let limits =
        Limits { entries: 3, names: 12, xattrs: 24, holes: 1, tails: 10, ..Limits::default() };
    let options = Options { layout: Layout::Inline, limits, ..Options::default() };
    with_options(options, |writer| {
        for _ in 0..10 {
            file_with(
                writer,
                "a/b",
                b"0123456789",
                with_xattrs(0, &[("user.a", b"1"), ("user.b", b"2")]),
            );
            writer.symlink(b"a/c", b"target", mode(0)).unwrap();
            writer.hard_link(b"a/c", b"a/b").unwrap();
            writer.special(b"a", Special::Fifo, mode(0)).unwrap();
            writer.directory(b"a", mode(0)).unwrap();
            sparse(writer, "a/sparse", 10_000, &[]);
            writer.special(b"a", Special::Fifo, mode(0)).unwrap();
            writer.directory(b"a", mode(0)).unwrap();
        }
    });
}

#[test]
fn the_same_calls_make_the_same_bytes() {
    // Stores name a version of the format in their paths. Who changes these numbers changes that.
    let expected = [
        (Layout::Plain, "030f637e309d36a5a1ce8bd2b37f6e3061dd4499acdb1b9fcd071432263f0924"),
        (Layout::Inline, "2d75a7cd18d797d8d0f8f8346f67675ad370b1c369f54d2ede60781b5f2d5ca5"),
    ];
    for (layout, digest) in expected {
        let [first, second] = [(); 2].map(|()| written(layout, layer));
        assert!(first == second);
        let found: String =
            Sha256::digest(&first).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, digest, "{layout:?}");
    }
}

#[test]
fn large_and_deep_trees_are_written() {
    let tree = tree(|writer| {
        writer.directory(&b"d/".repeat(2047), mode(0o700)).unwrap();
        for number in 0..100_000 {
            file(writer, &format!("many/{number:0255}"), b"");
        }
        writer.directory(b"other", mode(0o700)).unwrap();
        // A deep tree is also removed.
        writer.directory(&[&b"other/"[..], &b"d/".repeat(2000)].concat(), mode(0o700)).unwrap();
        file(writer, "other", b"");
    });
    assert_eq!(tree.len(), 1 + 2047 + 1 + 100_000 + 1);
}

/// An output that fails after some bytes, for a while.
struct Failing {
    inside: Cursor<Vec<u8>>,
    left: usize,
}

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            self.left = usize::MAX;
            return Err(io::Error::other("full"));
        };
        self.left = left;
        self.inside.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Failing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inside.seek(to)
    }
}

#[test]
fn an_image_with_a_lost_write_is_never_finished() {
    let attempt = |left| {
        let mut out = Failing { inside: Cursor::default(), left };
        let mut writer = Writer::new(&mut out, Options::default()).unwrap();
        let mut add = |path: &[u8]| -> Result<(), Error> {
            let mut file = writer.file(path, mode(0o644), 1 << 20)?;
            file.write_all(&[1; 1 << 20])?;
            file.finish()
        };
        let added = [add(b"a"), add(b"b")].into_iter().all(|added| added.is_ok());
        let finished = writer.finish();
        assert!(added || finished.is_err(), "{left}");
        let image = out.inside.into_inner();
        assert_eq!(read(&image).is_ok(), finished.is_ok(), "{left}");
        finished.is_ok()
    };
    assert!(attempt(usize::MAX));
    let sizes = (0..5 << 20).step_by(100_000);
    let succeeded = sizes.filter(|left| attempt(*left)).count();
    assert!(succeeded > 10 && succeeded < 40, "{succeeded}");
}
