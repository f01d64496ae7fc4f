//! Numbers of headers and of PAX records, of which some are none.

use erofs::Mtime;

use crate::convert::{content, entry, refusal, tree};
use crate::tar::{Item, file, record};

#[test]
fn ids_have_32_bits() {
    let tree = tree(&[
        Item { ids: [1 << 31, (1 << 32) - 1], ..file("binary", b"") },
        file("pax", b"").pax("uid", "4294967295").pax("gid", "2147483648"),
        file("nothing", b"").pax("uid", ""),
    ]);
    assert_eq!(entry(&tree, "binary").ids, [1 << 31, u32::MAX]);
    assert_eq!(entry(&tree, "pax").ids, [u32::MAX, 1 << 31]);
    assert_eq!(entry(&tree, "nothing").ids, [0, 0]);
}

#[test]
fn times_may_be_before_1970() {
    let tree = tree(&[
        Item { mtime: -62_135_596_801, ..file("binary", b"") },
        Item { mtime: 7, ..file("pax", b"") }.pax("mtime", "-1.25"),
        file("later", b"").pax("mtime", "253402300800.999999999"),
    ]);
    let mtime = |path| entry(&tree, path).mtime;
    assert_eq!(mtime("binary"), Mtime { seconds: -62_135_596_801, nanoseconds: 0 });
    assert_eq!(mtime("pax"), Mtime { seconds: -2, nanoseconds: 750_000_000 });
    assert_eq!(mtime("later"), Mtime { seconds: 253_402_300_800, nanoseconds: 999_999_999 });
}

#[test]
fn a_size_may_be_anywhere() {
    let tree = tree(&[
        Item { size: Some(1), ..file("pax", b"0123456789") }.pax("size", "10"),
        Item { patch: vec![(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x04".to_vec())], ..file("b", b"text") },
        file("last", b"here"),
    ]);
    assert_eq!(content(&tree, "pax"), b"0123456789");
    assert_eq!(content(&tree, "b"), b"text");
    assert_eq!(content(&tree, "last"), b"here");
}

#[test]
fn impossible_numbers_are_refused() {
    let sized = |size| Item { size: Some(size), ..file("f", b"text") };
    for (item, expected) in [
        (Item { ids: [-1, 0], ..file("f", b"") }, "impossible user id"),
        (Item { ids: [0, 1 << 32], ..file("f", b"") }, "impossible group id: \"4294967296\""),
        (file("f", b"").pax("uid", "4294967296"), "impossible user id"),
        (file("f", b"").pax("gid", "-1"), "impossible group id: \"-1\""),
        (file("f", b"").pax("mtime", "yesterday"), "impossible time: \"yesterday\""),
        (file("f", b"text").pax("size", "-4"), "impossible size: \"-4\""),
        (file("f", b"text").pax("size", "4x"), "impossible size: \"4x\""),
        (file("f", b"text").pax("size", "9223372036854775808"), "impossible size"),
        (sized(-4), "invalid entry size"),
        (sized(1 << 64), "impossible size"),
        (sized(1 << 63), "impossible size"),
        (Item { patch: vec![(124, b"00000000x04".to_vec())], ..file("f", b"") }, "invalid octal"),
    ] {
        let refused = refusal(&[item]);
        assert!(refused.contains(expected), "{refused}, not {expected}");
    }
}

#[test]
fn records_that_can_not_be_told_apart_are_refused() {
    for content in [b"99 uid=1\n".to_vec(), b"uid=1\n".to_vec(), record("uid", b"1").repeat(2)] {
        let mut content = content;
        content.extend(b"\n");
        let header = Item { content, ..crate::tar::item(b'x', "x") };
        let refused = refusal(&[header, file("f", b"")]);
        let known = ["has a PAX header that is not valid", "PAX error: malformed PAX"];
        assert!(known.iter().any(|known| refused.contains(known)), "{refused}");
    }
}
