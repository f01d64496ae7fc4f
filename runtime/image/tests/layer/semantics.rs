//! What entries mean: types, names, attributes, whiteouts.

use erofs::{Options, Special};
use image::layer::convert;

use crate::convert::{
    content, entry, expected, image, names, overlay, refusal, refusal_of, tree, tree_of,
};
use crate::reader::Kind;
use crate::tar::{GNU, Item, OLD, archive, directory, file, hard_link, item, record, symlink};

const WHITEOUT: Kind = Kind::Special(Special::Character { major: 0, minor: 0 });

#[test]
fn all_types_are_what_they_are() {
    let device = |kind, path, device| Item { device, ..item(kind, path) };
    let tree = tree(&[
        Item { ids: [1000, 100], mtime: 1_700_000_000, mode: 0o4751, ..file("file", b"text") },
        directory("dir/"),
        symlink("link", "../any/../where"),
        hard_link("again", "file"),
        device(b'3', "character", [1, 3]),
        device(b'4', "block", [259, 70_000]),
        item(b'6', "fifo"),
        Item { content: b"seven".to_vec(), ..item(b'7', "contiguous") },
        Item { content: b"old".to_vec(), magic: OLD, ..item(0, "old") },
        Item { magic: OLD, ..item(0, "old-dir/") },
    ]);
    assert_eq!(content(&tree, "file"), b"text");
    let found = entry(&tree, "file");
    assert_eq!((found.mode, found.ids, found.links), (0o4751, [1000, 100], 2));
    assert_eq!((found.mtime.seconds, found.mtime.nanoseconds), (1_700_000_000, 0));
    assert_eq!(tree[&b"file"[..]].first, b"again");
    for (path, kind) in [
        ("dir", Kind::Directory),
        ("old-dir", Kind::Directory),
        ("link", Kind::Symlink(b"../any/../where".to_vec())),
        ("character", Kind::Special(Special::Character { major: 1, minor: 3 })),
        ("block", Kind::Special(Special::Block { major: 259, minor: 70_000 })),
        ("fifo", Kind::Special(Special::Fifo)),
    ] {
        assert_eq!(entry(&tree, path).kind, kind, "{path}");
    }
    assert_eq!(content(&tree, "contiguous"), b"seven");
    assert_eq!(content(&tree, "old"), b"old");
}

#[test]
fn only_files_have_content() {
    let sized = |item: Item| Item { size: Some(5000), ..item };
    let tree = tree(&[
        sized(directory("dir")),
        file("file", b"text"),
        sized(symlink("link", "file")),
        sized(hard_link("again", "file")),
        sized(Item { device: [1, 3], ..item(b'3', "null") }),
        sized(item(b'6', "fifo")),
        sized(Item { magic: OLD, ..item(0, "old/") }),
        file("last", b"here"),
    ]);
    assert_eq!(names(&tree), ["again", "dir", "fifo", "file", "last", "link", "null", "old"]);
    assert_eq!(content(&tree, "last"), b"here");
}

#[test]
fn names_stay_inside_and_may_be_long() {
    let long = format!("{}/{}", "d".repeat(255), "n".repeat(255));
    let target = "t".repeat(300);
    let prefix = vec![(345, b"before".to_vec())];
    let tree = tree(&[
        directory("./"),
        file("../x", b""),
        file("/y", b""),
        file("a/../../z//./w", b""),
        file(&long, b"long"),
        symlink("by-gnu", &target),
        file("short", b"").pax("path", "by/pax"),
        symlink("by-pax", "short").pax("linkpath", &target),
        Item { patch: prefix.clone(), ..file("behind", b"") },
        // GNU's headers have times in that place.
        Item { patch: vec![(345, b"00000000001\0".to_vec())], ..file("no-prefix", b"").gnu() },
    ]);
    let expected = [
        "before",
        "before/behind",
        "by",
        "by-gnu",
        "by-pax",
        "by/pax",
        &long[..255],
        &long,
        "no-prefix",
        "x",
        "y",
        "z",
        "z/w",
    ];
    assert_eq!(names(&tree), expected);
    for path in ["by-gnu", "by-pax"] {
        assert_eq!(entry(&tree, path).kind, Kind::Symlink(target.clone().into()));
    }
    // The root's own entry does not count: it may not lock anybody out.
    let locked = crate::convert::tree(&[Item { mode: 0o700, ..directory("./") }]);
    assert_eq!(entry(&locked, "").mode, 0o755);
}

#[test]
fn impossible_names_are_refused() {
    for (item, expected) in [
        (file(&format!("a/{}", "n".repeat(256)), b""), "has a name of more than 255 bytes"),
        (file("a", b"").pax("path", "b/".repeat(2047) + "bc"), "longer than 4095 bytes"),
        (file(&"a/".repeat(2500), b""), "path exceeds limit: 5000 bytes > 4096 bytes"),
        (file("a", b"").pax("path", "a\0b"), "has a zero byte"),
        (file("", b""), "entry has empty path"),
        (file("a", b"").pax("path", ""), "entry has empty path"),
        (symlink("a", "").pax("x", "y"), "entry \"a\" of the layer is a link without a target"),
        (hard_link("a", ""), "is a link without a target"),
        (symlink("a", "b").pax("linkpath", "b\0"), "the target of the symbolic link \"a\" has a"),
    ] {
        let refused = refusal(&[item]);
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn unknown_types_are_refused_by_name() {
    for (kind, magic, expected) in [
        (b'D', GNU, "entry \"some/path\" of the layer is of the unknown type 'D'"),
        (b'\xff', GNU, "is of the unknown type '\\xff'"),
        (b'x', OLD, "is of the unknown type 'x'"),
        (b'S', OLD, "is of the unknown type 'S'"),
        (b'0', *b"ustar\x0001", "says \"ustar\" with an unknown version"),
        (b'3', OLD, "is a device without a number"),
    ] {
        let refused = refusal(&[file("before", b""), Item { magic, ..item(kind, "some/path") }]);
        assert!(refused.contains(expected), "{refused}");
    }
    let device = Item { device: [4096, 0], ..item(b'4', "dev") };
    assert!(refusal(&[device]).contains("the impossible number 4096:0"));
}

#[test]
fn global_headers_say_nothing() {
    let content = [record("path", b"forged"), record("uid", b"7")].concat();
    let tree = tree(&[Item { content, ..item(b'g', "global") }, file("file", b"")]);
    assert_eq!(names(&tree), ["file"]);
    assert_eq!(entry(&tree, "file").ids, [0, 0]);
}

#[test]
fn attributes_are_kept_byte_by_byte_or_dropped() {
    let any = b"a\0b\n=\xff";
    let big = vec![0xa5; 65_535];
    let own = file("file", b"text")
        .xattr("user.any", any)
        .xattr("user.x", b"first")
        .xattr("user.x", b"")
        .xattr("user.big", &big)
        .xattr("security.capability", &[1, 0, 0, 2])
        .xattr("system.posix_acl_access", b"acl")
        .xattr("trusted.overlay.redirect", b"/etc")
        .xattr("user.overlay.opaque", b"y")
        .xattr("system.nfs4_acl", b"x")
        .xattr("nonsense", b"x");
    let root = directory("dir").xattr("trusted.overlay.opaque", b"y").xattr("nonsense", b"");
    let bytes = archive(&[own, root]);
    let (_, layer) = image(&bytes);
    let dropped = |name: &str| layer.dropped.names.get(name).copied();
    assert_eq!(layer.dropped.names.len(), 5);
    assert_eq!(dropped("trusted.overlay.redirect"), Some(1));
    assert_eq!(dropped("nonsense"), Some(2));
    let tree = tree_of(&bytes);
    let xattrs = &entry(&tree, "file").xattrs;
    let expected: [(&str, &[u8]); 5] = [
        ("security.capability", &[1, 0, 0, 2]),
        ("system.posix_acl_access", b"acl"),
        ("user.any", any),
        ("user.big", &big),
        ("user.x", b""),
    ];
    assert_eq!(xattrs.len(), expected.len());
    for (name, value) in expected {
        assert_eq!(xattrs[name.as_bytes()], value, "{name}");
    }
    assert_eq!(overlay(&tree, "dir"), [None, None]);
    for (name, value, expected) in [
        ("user.big", vec![0; 65_536], "\"user.big\" has a value of more than 65535 bytes"),
        ("user.", Vec::new(), "\"user.\" has a name that EROFS can't keep"),
    ] {
        let refused = refusal(&[file("file", b"").xattr(name, &value)]);
        assert!(refused.contains("entry \"file\" of the layer") && refused.contains(expected));
    }
}

#[test]
fn names_of_dropped_attributes_are_few() {
    let mut own = file("file", b"");
    for number in 0..100 {
        own = own.xattr(&format!("trusted.{number}"), b"");
    }
    let (_, layer) = image(&archive(&[own]));
    assert_eq!((layer.dropped.names.len(), layer.dropped.others), (32, 68));
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let tree = tree(&[
        file("etc/.wh.gone", b"content that nobody wants"),
        file("etc/own", b"stays"),
        file("etc/.wh.own", b""),
        file("etc/.wh.later", b""),
        file("etc/later", b"stays too"),
        directory("etc/dir"),
        file("etc/.wh.dir", b""),
        file("before/inside", b""),
        file("before/.wh..wh..opq", b""),
        file("after/.wh..wh..opq", b""),
        file("after/inside", b""),
        file(".wh..wh..opq", b""),
        file(".wh..wh.plnk", b""),
        file(".wh..wh.plnk/17.4", b""),
        directory("plain"),
    ]);
    assert_eq!(
        names(&tree),
        [
            "after",
            "after/inside",
            "before",
            "before/inside",
            "etc",
            "etc/dir",
            "etc/gone",
            "etc/later",
            "etc/own",
            "plain",
        ]
    );
    assert_eq!(entry(&tree, "etc/gone").kind, WHITEOUT);
    assert_eq!(content(&tree, "etc/own"), b"stays");
    assert_eq!(content(&tree, "etc/later"), b"stays too");
    let (yes, empty) = (Some(b"y".to_vec()), Some(Vec::new()));
    for (path, expected) in [
        ("", [yes.clone(), None]),
        ("etc", [None, empty]),
        ("etc/dir", [yes.clone(), None]),
        ("before", [yes.clone(), None]),
        ("after", [yes, None]),
        ("plain", [None, None]),
    ] {
        assert_eq!(overlay(&tree, path), expected, "{path}");
    }
    for path in [".wh.", "a/.wh..", "a/.wh..."] {
        let refused = refusal(&[file(path, b"")]);
        assert!(refused.contains("is a whiteout without a name to hide"), "{refused}");
    }
}

#[test]
fn the_last_entry_with_a_path_counts() {
    let tree = tree(&[
        file("a/b", b"inside"),
        file("a", b"a file"),
        Item { mode: 0o711, ..directory("a") },
        file("a/c", b""),
        Item { mode: 0o700, ..directory("a") },
        file("twice", b"first"),
        file("twice", b"second"),
    ]);
    assert_eq!(names(&tree), ["a", "a/c", "twice"]);
    assert_eq!(entry(&tree, "a").mode, 0o700);
    assert_eq!(content(&tree, "twice"), b"second");
}

#[test]
fn limits_name_the_entry_and_the_limit() {
    let bytes = archive(&(0..100).map(|n| file(&format!("f{n}"), b"")).collect::<Vec<_>>());
    let mut options = Options::default();
    options.limits.entries = 70;
    let output = std::io::Cursor::new(Vec::new());
    let refused = convert(&bytes[..], &expected(&bytes, &bytes), output, options).unwrap_err();
    assert_eq!(
        crate::convert::chain(&refused),
        "entry \"f70\" of the layer: the image would have more than 70 entries"
    );
}

#[test]
fn what_is_no_archive_is_refused() {
    assert!(refusal_of(&[7; 4096]).contains("is not valid at byte 0"));
    let mut bytes = archive(&[file("a", b""), file("b", b"")]);
    bytes[512] ^= 1;
    assert!(refusal_of(&bytes).contains("is not valid at byte 512: header error: checksum"));
    let orphan = archive(&[Item { content: record("path", b"x"), ..item(b'x', "x") }]);
    assert!(refusal_of(&orphan).contains("metadata entries without a following"));
    assert_eq!(names(&tree_of(&[])), [""; 0]);
    assert_eq!(names(&tree_of(&[0; 512])), [""; 0]);
}
