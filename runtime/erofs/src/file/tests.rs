use super::*;

#[test]
fn chunks_grow_with_the_file() {
    let gib = 1 << 30;
    assert_eq!([0, 1, gib].map(chunk_bits), [0, 0, 0]);
    assert_eq!([gib + 1, 2 * gib, 2 * gib + 1].map(chunk_bits), [1, 1, 2]);
    assert_eq!(chunk_bits(MAX_FILE), 14);
}
