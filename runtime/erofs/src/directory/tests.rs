use super::*;

const SOME: Id = Id::ROOT;

#[test]
fn a_block_ends_before_the_name_that_does_not_fit() {
    // 16 names of 244 bytes with their entries are 4096 bytes.
    let all: Vec<Vec<u8>> = (0..17).map(|number| vec![b'a' + number; 244]).collect();
    let lengths = |last: &'static [u8]| {
        let names = all.iter().take(15).map(Vec::as_slice).chain([last, b"z"]);
        let blocks = Blocks::new(names.map(|name| (name, SOME)));
        blocks.map(|block| used(&block)).collect::<Vec<_>>()
    };
    assert_eq!(lengths(&[b'y'; 244]), [4096, 13]);
    assert_eq!(lengths(&[b'y'; 243]), [4095, 13]);
    assert_eq!(lengths(&[b'y'; 245]), [15 * 256, 12 + 245 + 13]);
    assert_eq!(Blocks::new(std::iter::empty()).count(), 0);
}

#[test]
fn names_follow_the_entries_of_their_block() {
    let block: [Name<'_>; 2] = [(b".", SOME), (b"name", SOME)];
    let bytes = encode(&block, |_| (0x1234, Type::Symlink));
    let entry = |offset| [0x34, 0x12, 0, 0, 0, 0, 0, 0, offset, 0, 7, 0];
    assert_eq!(bytes, [&entry(24)[..], &entry(25), b".name"].concat());
}
