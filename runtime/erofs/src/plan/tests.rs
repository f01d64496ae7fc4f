use super::*;

fn shape(xattrs: usize, tail: u64, map: u64) -> Shape<'static> {
    Shape { xattrs: vec![0; xattrs].into(), tail, map, listing: None }
}

#[test]
fn tails_and_inodes_stay_in_one_block() {
    for xattrs in (0..6000).step_by(4) {
        for tail in [0, 1, 60, 61, 1000, 2047, 2048] {
            let shape = shape(xattrs, tail, 0);
            for from in [64, 100, 1984, 2048, 4000, 4032, 4095] {
                let (start, end) = shape.place(from);
                assert!(start >= from && start % 64 == 0);
                assert!(start - from <= 2048 + 2 * 64, "{xattrs} {tail} {from}: {start}");
                assert_eq!(end - start, 64 + body_size(&vec![0; xattrs]) as u64 + tail);
                let first = end - tail;
                assert!(tail == 0 || first / 4096 == (end - 1) / 4096, "{xattrs} {tail} {from}");
            }
        }
    }
}

#[test]
fn maps_may_cross_blocks_and_are_aligned() {
    let (start, end) = shape(8, 0, 4 * 5000).place(65);
    assert_eq!((start, end), (128, 128 + 64 + 20 + 20_000));
}

#[test]
fn tails_are_at_most_half_a_block() {
    let sizes = [0, 1, 2048, 2049, 4095, 4096, 4097, 8192 + 2048, u64::MAX];
    assert_eq!(sizes.map(tail_size), [0, 1, 2048, 0, 0, 0, 1, 2048, 0]);
}
