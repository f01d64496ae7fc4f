//! The disk, end to end: requests through a window, data in a file.

use std::os::unix::fs::FileExt;

use super::*;
use crate::device::Device;
use crate::fake_driver::{Driver, MEMORY, NEXT, Piece, WRITE, spawner};

const SIZE: u64 = 1 << 20;

fn disk(read_only: bool) -> (Driver, File) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE).unwrap();
    let device =
        super::device(&spawner(), file.try_clone().unwrap(), read_only, "cuddy-0").unwrap();
    (Driver::ready(device), file)
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

/// Sends a request with `data` buffers; returns status and used length.
fn send(driver: &mut Driver, kind: u32, sector: u64, data: &[Piece]) -> (u8, u32) {
    let header = driver.out(&header(kind, sector));
    let status = driver.space(1);
    let pieces: Vec<_> = [header].iter().chain(data).chain(&[status]).copied().collect();
    let len = driver.request(0, &pieces);
    (driver.bytes(status)[0], len)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|number| (number * 7 % 251) as u8).collect()
}

#[test]
fn data_written_is_read_back() {
    let (mut driver, file) = disk(false);
    let bytes = pattern(6 * 512);
    let parts = [driver.out(&bytes[..100]), driver.out(&bytes[100..])];
    assert_eq!(send(&mut driver, 1, 8, &parts), (0, 1));
    assert_eq!(send(&mut driver, 4, 0, &[]), (0, 1));
    let mut stored = vec![0; bytes.len()];
    file.read_exact_at(&mut stored, 8 * 512).unwrap();
    assert_eq!(stored, bytes);
    let room = [driver.space(1000), driver.space(0), driver.space(2072)];
    assert_eq!(send(&mut driver, 0, 8, &room), (0, 3073));
    let read: Vec<u8> = room.iter().flat_map(|piece| driver.bytes(*piece)).collect();
    assert_eq!(read, bytes);
}

#[test]
fn framing_does_not_matter() {
    let (mut driver, _file) = disk(false);
    // Header and data in one buffer, header of the read in two, status with the data.
    let bytes = pattern(512);
    let write = driver.out(&[header(1, 3), bytes.clone()].concat());
    let status = driver.space(1);
    driver.request(0, &[write, status]);
    assert_eq!(driver.bytes(status), [0]);
    let header = header(0, 3);
    let (first, second) = (driver.out(&header[..5]), driver.out(&header[5..]));
    let room = driver.space(513);
    assert_eq!(driver.request(0, &[first, second, room]), 513);
    assert_eq!(driver.bytes(room), [&bytes[..], &[0]].concat());
}

#[test]
fn the_serial_is_given() {
    let (mut driver, _file) = disk(false);
    let room = driver.space(20);
    assert_eq!(send(&mut driver, 8, 0, &[room]), (0, 21));
    assert_eq!(driver.bytes(room), b"cuddy-0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn ranges_are_erased() {
    let (mut driver, file) = disk(false);
    let ones = vec![1; 64 << 10];
    file.write_all_at(&ones, 0).unwrap();
    let range = |sector: u64, sectors: u32, flags: u32| {
        [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    let two = driver.out(&[range(8, 8, 0), range(32, 8, 1)].concat());
    assert_eq!(send(&mut driver, 13, 0, &[two]), (0, 1));
    let discard = driver.out(&range(64, 8, 0));
    assert_eq!(send(&mut driver, 11, 0, &[discard]), (0, 1));
    let mut stored = vec![0; ones.len()];
    file.read_exact_at(&mut stored, 0).unwrap();
    for (sector, bytes) in stored.chunks(512).enumerate() {
        let erased = (8..16).contains(&sector) || (32..40).contains(&sector);
        if !(64..72).contains(&sector) {
            assert!(bytes.iter().all(|&byte| byte == u8::from(!erased)), "sector {sector}");
        }
    }
    let cases = [(range(0, 8, 2), 2), (range(2047, 2, 0), 1), (range(u64::MAX, 1, 0), 1)];
    for (bytes, status) in cases {
        let bad = driver.out(&bytes);
        assert_eq!(send(&mut driver, 13, 0, &[bad]).0, status);
    }
    let flagged = driver.out(&range(0, 8, 1));
    assert_eq!(send(&mut driver, 11, 0, &[flagged]).0, 2);
    let many = driver.out(&range(0, 1, 0).repeat(17));
    assert_eq!(send(&mut driver, 11, 0, &[many]).0, 1);
    let torn = driver.out(&range(0, 1, 0)[..15]);
    assert_eq!(send(&mut driver, 11, 0, &[torn]).0, 1);
}

#[test]
fn a_request_zeroes_no_more_than_one_range_may_have() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 << 30).unwrap();
    let device = super::device(&spawner(), file, false, "").unwrap();
    assert_eq!(device.description().config[52..56], [1, 0, 0, 0]);
    let mut driver = Driver::ready(device);
    let range = |sectors: u32| [&[0; 8][..], &sectors.to_le_bytes(), &[0; 4]].concat();
    let few = driver.out(&range(8));
    assert_eq!(send(&mut driver, 13, 0, &[few]).0, 0);
    let more = driver.out(&[range(MAX_RANGE), range(1)].concat());
    assert_eq!(send(&mut driver, 13, 0, &[more]).0, 1);
    assert_eq!(send(&mut driver, 11, 0, &[more]).0, 0);
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    let (mut driver, file) = disk(true);
    assert_ne!(driver.offered() & request::F_RO, 0);
    assert_eq!(driver.offered() & (request::F_DISCARD | request::F_FLUSH), 0);
    let data = driver.out(&[1; 512]);
    assert_eq!(send(&mut driver, 1, 0, &[data]).0, 1);
    let range = driver.out(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(send(&mut driver, 13, 0, &[range]).0, 1);
    let mut first = [9; 512];
    file.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, [0; 512]);
}

#[test]
fn impossible_requests_are_refused() {
    let (mut driver, _file) = disk(false);
    let room = driver.space(512);
    assert_eq!(send(&mut driver, 0, SIZE / 512, &[room]), (1, 0));
    assert_eq!(send(&mut driver, 0, u64::MAX, &[room]), (1, 0));
    assert_eq!(send(&mut driver, 0, SIZE / 512 - 1, &[room]), (0, 513));
    let odd = driver.space(100);
    assert_eq!(send(&mut driver, 0, 0, &[odd]).0, 1);
    assert_eq!(send(&mut driver, 77, 0, &[]).0, 2);
    // The same megabyte, many times over the limit.
    let megabyte = driver.space(1 << 20);
    assert_eq!(send(&mut driver, 0, 0, &[megabyte; 65]).0, 1);
}

#[test]
fn a_file_that_shrank_gives_an_error() {
    let (mut driver, file) = disk(false);
    file.set_len(512).unwrap();
    let room = driver.space(1024);
    assert_eq!(send(&mut driver, 0, 0, &[room]), (1, 0));
}

#[test]
fn hostile_chains_are_given_back() {
    let (mut driver, _file) = disk(false);
    let good = driver.out(&header(0, 0));
    let short = driver.out(&header(0, 0)[..10]);
    let (room, status) = (driver.space(512), driver.space(1));
    let outside = Piece { address: MEMORY - 8, len: 512, writable: true };
    let wrapping = Piece { address: u64::MAX - 8, len: 512, writable: true };
    let empty = Piece { len: 0, ..good };
    assert_eq!(driver.request(0, &[good]), 0, "no status byte");
    assert_eq!(driver.request(0, &[room, good, status]), 0, "readable after writable");
    assert_eq!(driver.request(0, &[good, outside, status]), 0, "outside of memory");
    assert_eq!(driver.request(0, &[good, wrapping, status]), 0, "past the end of addresses");
    assert_eq!(driver.request(0, &[empty]), 0, "nothing at all");
    driver.request(0, &[short, room, status]);
    assert_eq!(driver.bytes(status), [1], "half a header");
    driver.request(0, &[room, status]);
    assert_eq!(driver.bytes(status), [1], "header writable");
    // A loop, then a chain that leaves the table, then an indirect table of nonsense.
    driver.put_descriptor(0, 0, (good.address, 16, NEXT | WRITE, 0));
    driver.offer(0, 0);
    assert_eq!(driver.used(0), (0, 0));
    driver.put_descriptor(0, 0, (good.address, 16, NEXT, 60000));
    driver.offer(0, 0);
    assert_eq!(driver.used(0), (0, 0));
    driver.put_descriptor(0, 0, (good.address, 15, 4, 0));
    driver.offer(0, 0);
    assert_eq!(driver.used(0), (0, 0));
    // And the disk still works.
    assert_eq!(send(&mut driver, 0, 0, &[room]), (0, 513));
}

#[test]
fn writes_are_durable_without_the_flush_feature() {
    let (mut driver, file) = disk(false);
    driver.negotiate(!request::F_FLUSH);
    let data = driver.out(&[5; 512]);
    assert_eq!(send(&mut driver, 1, 0, &[data]), (0, 1));
    let mut first = [0; 512];
    file.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, [5; 512]);
}

#[test]
fn disks_with_blocks_above_a_page_are_refused() {
    assert!(check_block_size(512).is_ok() && check_block_size(4096).is_ok());
    let error = check_block_size(16384).unwrap_err();
    assert!(matches!(error, DeviceError::Host { .. }), "{error}");
}
