//! Links of both kinds, and paths that lead through them.

use crate::convert::{content, entry, names, refusal, tree};
use crate::reader::Kind;
use crate::tar::{directory, file, hard_link, symlink};

#[test]
fn links_above_an_entry_are_followed() {
    let tree = tree(&[
        symlink("lib", "usr/lib"),
        symlink("abs", "/usr"),
        symlink("out", "../../usr"),
        file("lib/one", b"1"),
        directory("usr/lib"),
        file("abs/lib/two", b"2"),
        file("out/lib/three", b"3"),
        symlink("usr/lib64", "../lib"),
        file("usr/lib64/four", b"4"),
        file("lib/.wh.five", b""),
        file("abs/lib/.wh..wh..opq", b""),
        hard_link("lib/six", "abs/lib/one"),
    ]);
    assert_eq!(
        names(&tree),
        [
            "abs",
            "lib",
            "out",
            "usr",
            "usr/lib",
            "usr/lib/five",
            "usr/lib/four",
            "usr/lib/one",
            "usr/lib/six",
            "usr/lib/three",
            "usr/lib/two",
            "usr/lib64",
        ]
    );
    assert_eq!(content(&tree, "usr/lib/six"), b"1");
    assert_eq!(entry(&tree, "usr/lib/one").links, 2);
    assert_eq!(crate::convert::overlay(&tree, "usr/lib")[0], Some(b"y".to_vec()));
}

#[test]
fn an_entry_replaces_a_link_with_its_own_path() {
    let tree = tree(&[
        symlink("lib", "usr/lib"),
        directory("lib"),
        file("lib/x", b""),
        symlink("file", "elsewhere"),
        file("file", b"own"),
    ]);
    assert_eq!(names(&tree), ["file", "lib", "lib/x"]);
    assert_eq!(entry(&tree, "lib").kind, Kind::Directory);
    assert_eq!(content(&tree, "file"), b"own");
}

#[test]
fn paths_that_lead_nowhere_are_refused() {
    for (items, expected) in [
        (
            vec![file("file", b""), file("file/below", b"")],
            "entry \"file/below\" of the layer: a part of the path \"file/below\" is no directory",
        ),
        (
            vec![file("file", b""), symlink("link", "file"), file("link/below", b"")],
            "entry \"link/below\" of the layer: a part of the path \"file/below\" is no directory",
        ),
        (
            vec![symlink("a", "b"), symlink("b", "a"), file("a/x", b"")],
            "entry \"a/x\" of the layer: the path \"a/x\" leads through too many names",
        ),
        (
            vec![hard_link("early", "late"), file("late", b"")],
            "the target \"late\" of the hard link \"early\" is not in the image",
        ),
        (
            vec![directory("dir"), hard_link("link", "dir")],
            "the target \"dir\" of the hard link \"link\" is a directory",
        ),
        (
            vec![file(".wh.gone", b""), hard_link("link", "gone")],
            "the target \"gone\" of the hard link \"link\" is not in the image",
        ),
    ] {
        let refused = refusal(&items);
        assert!(refused.contains(expected), "{refused}");
    }
}
