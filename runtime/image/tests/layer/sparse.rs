//! Sparse files, in all the formats of GNU tar.

use crate::convert::{content, names, refusal, refusal_of, tree};
use crate::reader::Kind;
use crate::tar::{GNU, Item, archive, file, item, record};

/// Pieces of a file of 20 000 bytes: where, and which bytes.
fn pieces() -> Vec<(u64, Vec<u8>)> {
    (0..26).map(|number| (u64::from(number) * 700, vec![b'a' + number; 100])).collect()
}

fn whole() -> Vec<u8> {
    let mut whole = vec![0; 20_000];
    for (at, bytes) in pieces() {
        let at = usize::try_from(at).unwrap();
        whole[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    whole
}

fn stored() -> Vec<u8> {
    pieces().into_iter().flat_map(|(_, bytes)| bytes).collect()
}

/// GNU's old format: 4 pieces in the header, 21 in each block behind it.
fn old(map: &[(u64, u64)], size: u64, content: Vec<u8>) -> Item {
    let field = |number: u64| format!("{number:011o}\0").into_bytes();
    let describe = |part: &[(u64, u64)]| -> Vec<u8> {
        part.iter().flat_map(|(at, len)| [field(*at), field(*len)].concat()).collect()
    };
    let (first, rest) = map.split_at(map.len().min(4));
    let mut patch = vec![(386, describe(first)), (483, field(size))];
    patch.push((482, vec![u8::from(!rest.is_empty())]));
    let blocks: Vec<_> = rest.chunks(21).collect();
    let mut behind = Vec::new();
    for (number, part) in blocks.iter().enumerate() {
        let mut block = describe(part);
        block.resize(512, 0);
        block[504] = u8::from(number + 1 < blocks.len());
        behind.extend(block);
    }
    Item { content, patch, behind, magic: GNU, ..item(b'S', "sparse") }
}

fn map() -> Vec<(u64, u64)> {
    pieces().iter().map(|(at, bytes)| (*at, bytes.len() as u64)).collect()
}

/// PAX 1.0: the map is in the content.
fn in_content(map: &[(u64, u64)], size: &str, content: Vec<u8>) -> Item {
    let mut behind = format!("{}\n", map.len()).into_bytes();
    behind.extend(map.iter().flat_map(|(at, len)| format!("{at}\n{len}\n").into_bytes()));
    behind.resize(behind.len().next_multiple_of(512), 0);
    Item { content, behind, ..file("GNUSparseFile.1/sparse", b"") }
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", "sparse")
        .pax("GNU.sparse.realsize", size)
}

fn by_records() -> [Item; 2] {
    let map = map();
    let mut pairs = file("sparse", &stored()).pax("GNU.sparse.size", "20000");
    pairs = pairs.pax("GNU.sparse.numblocks", map.len().to_string());
    for (at, len) in &map {
        pairs = pairs
            .pax("GNU.sparse.offset", at.to_string())
            .pax("GNU.sparse.numbytes", len.to_string());
    }
    let list: Vec<_> = map.iter().map(|(at, len)| format!("{at},{len}")).collect();
    let listed = file("GNUSparseFile.1/sparse", &stored())
        .pax("GNU.sparse.size", "20000")
        .pax("GNU.sparse.name", "sparse")
        .pax("GNU.sparse.map", list.join(","));
    [pairs, listed]
}

#[test]
fn all_formats_make_the_same_file() {
    let [pairs, listed] = by_records();
    for sparse in
        [old(&map(), 20_000, stored()), pairs, listed, in_content(&map(), "20000", stored())]
    {
        let tree = tree(&[file("before", b""), sparse, file("last", b"here")]);
        assert_eq!(names(&tree), ["before", "last", "sparse"]);
        assert_eq!(content(&tree, "sparse"), whole());
        assert_eq!(content(&tree, "last"), b"here");
    }
}

#[test]
fn holes_take_no_room() {
    let size = 1 << 40;
    let map = [(0, 4), (1 << 39, 4), (size, 0)];
    let sparse = old(&map, size, b"headtail".to_vec());
    // 13 octal digits do not fit: base 256.
    let binary = |number: u64| [&[0x80, 0, 0, 0][..], &number.to_be_bytes()].concat();
    let mut patch = vec![(386, binary(0)), (398, binary(4)), (410, binary(1 << 39))];
    patch.extend([(422, binary(4)), (434, binary(size)), (446, binary(0)), (483, binary(size))]);
    let (image, _) = crate::convert::image(&archive(&[Item { patch, ..sparse }]));
    // Each piece is in a chunk of 4 MiB of its own.
    assert!(image.len() < 10 << 20, "{}", image.len());
    let tree = crate::reader::read(&image).unwrap();
    let Kind::File { size: found, blocks } = &crate::convert::entry(&tree, "sparse").kind else {
        panic!("no file")
    };
    assert_eq!(*found, size);
    assert_eq!(blocks.len(), 2);
    assert_eq!(blocks[&(1 << 27)][..4], *b"tail");
}

#[test]
fn maps_that_contradict_themselves_are_refused() {
    let four = || b"text".to_vec();
    let records = |map: &str| file("f", b"text").pax("GNU.sparse.map", map);
    for (item, expected) in [
        (old(&[(8, 2), (4, 2)], 10, four()), "whose map has pieces out of order"),
        (old(&[(0, 3), (2, 1)], 10, four()), "whose map has pieces out of order"),
        (old(&[(7, 4)], 10, four()), "whose map leads beyond the file's end"),
        (old(&[(u64::MAX >> 31, 4)], 10, four()), "whose map leads beyond the file's end"),
        (old(&[(0, 3)], 10, four()), "whose map has not as many bytes as are stored"),
        (old(&[(0, 5)], 10, four()), "whose map has not as many bytes as are stored"),
        (in_content(&[(0, 4)], "10", four()).pax("size", "516"), "has a size of its own"),
        (in_content(&[(0, 4)], "x", four()), "missing GNU.sparse.realsize"),
        (records("0,4,1").pax("GNU.sparse.size", "9"), "odd number of values"),
        (records("0,x").pax("GNU.sparse.size", "9"), "invalid length"),
        (records("0,4").pax("GNU.sparse.size", "-9"), "impossible number of a sparse file"),
        (
            Item { kind: b'5', ..records("0,4").pax("GNU.sparse.size", "9") },
            "is a sparse file whose map is that of no file",
        ),
    ] {
        let refused = refusal(&[item]);
        assert!(refused.contains(expected), "{refused}, not {expected}");
    }
}

#[test]
fn headers_without_end_are_refused() {
    // Blocks that announce another one, and have no piece that anybody counts.
    let mut endless = old(&[(0, 1); 5], 10, Vec::new());
    endless.behind[..504].fill(0);
    endless.behind[504] = 1;
    endless.behind = endless.behind.repeat(40_000);
    let refused = refusal(&[endless]);
    assert!(refused.contains("the headers of an entry have more than 16777216 bytes"), "{refused}");

    let many = in_content(&[(0, 0); 300_000], "0", Vec::new());
    assert!(refusal(&[many]).contains("too many sparse entries"));
    let line = in_content(&[], "0", Vec::new());
    let line = Item { behind: vec![b'1'; 17 << 20], ..line };
    assert!(refusal(&[line]).contains("the headers of an entry have more than"));

    let big = record("comment", &vec![b'x'; 2 << 20]);
    let refused = refusal(&[Item { content: big, ..item(b'x', "x") }, file("f", b"")]);
    assert!(refused.contains("metadata exceeds limit"), "{refused}");
    let headers = Item { content: record("comment", b"x"), ..item(b'x', "x") };
    let refused = refusal_of(&archive(&[headers.clone(), headers, file("f", b"")]));
    assert!(refused.contains("duplicate PAX extended header"), "{refused}");
}
