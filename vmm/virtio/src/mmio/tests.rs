//! The transport against a driver that keeps the rules, and one that breaks them.

use super::*;
use crate::fake_driver::{Driver, spawner};
use crate::rng;
use crate::worker::{Spawner, Worker};

fn rng() -> Worker {
    rng::device(&spawner()).unwrap()
}

/// A driver up to `FEATURES_OK`.
fn agreed() -> Driver {
    let mut driver = Driver::new(rng());
    driver.write(0x70, 1);
    driver.write(0x70, 3);
    driver.accept(VIRTIO_F_VERSION_1);
    driver.write(0x70, 11);
    assert_eq!(driver.status(), 11);
    driver
}

#[test]
fn a_window_identifies_its_device() {
    let driver = Driver::new(rng());
    assert_eq!([driver.read(0), driver.read(4), driver.read(8)], [0x7472_6976, 2, 4]);
    assert_eq!([driver.read(0xb0), driver.read(0xb4)], [u32::MAX; 2]);
    assert_eq!(driver.read(0x34), 16);
    let Driver { transport, shadow, .. } = driver;
    transport.withdraw();
    assert_eq!([shadow.read(8), shadow.read(0x34)], [0, 16]);
    drop(transport);
    assert_eq!([shadow.read(0), shadow.read(8), shadow.read(0x34)], [0x7472_6976, 0, 0]);
}

#[test]
fn registers_take_four_bytes_only() {
    let mut driver = Driver::new(rng());
    driver.transport.write(0x70, &[1]);
    driver.transport.write(0x70, &[1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(driver.status(), 0);
}

#[test]
fn features_need_version_1_and_no_unknown_bits() {
    for features in [0, VIRTIO_F_VERSION_1 | 1 << 40] {
        let mut driver = Driver::new(rng());
        driver.write(0x70, 1);
        driver.write(0x70, 3);
        driver.accept(features);
        driver.write(0x70, 11);
        assert_eq!(driver.status(), 3, "{features:#x}");
        driver.write(0x70, 15);
        assert_eq!(driver.status(), 3);
    }
}

#[test]
fn status_bits_come_in_order() {
    let mut driver = Driver::new(rng());
    driver.write(0x70, 4);
    assert_eq!(driver.status(), 0);
    driver.write(0x70, 2);
    assert_eq!(driver.status(), 0);
    driver.write(0x70, 3);
    assert_eq!(driver.status(), 3);
    driver.write(0x70, 1);
    assert_eq!(driver.status(), 3, "only a reset clears");
    driver.write(0x70, 128 | 3);
    assert_eq!(driver.status(), 131);
    driver.write(0x70, 128 | 11);
    assert_eq!(driver.status(), 131, "nothing follows FAILED");
    driver.write(0x70, 0);
    assert_eq!(driver.status(), 0);
}

#[test]
fn agreed_features_stay() {
    let mut driver = agreed();
    driver.accept(0);
    driver.set_up_queues(u32::MAX);
    driver.write(0x70, 15);
    assert_eq!(driver.status(), 15);
}

#[test]
fn invalid_queues_are_not_enabled() {
    let good = [0x1000, 0x2000, 0x3000];
    let end = crate::fake_driver::MEMORY;
    let cases: [(u32, [u64; 3]); 9] = [
        (0, good),
        (3, good),
        (32, good),
        (u32::MAX, good),
        (16, [0x1008, 0x2000, 0x3000]),
        (16, [0x1000, 0x2001, 0x3000]),
        (16, [0x1000, 0x2000, 0x3002]),
        (16, [end - 128, 0x2000, 0x3000]),
        (16, [0x1000, 0x2000, u64::MAX - 3]),
    ];
    for (size, addresses) in cases {
        let mut driver = agreed();
        driver.write(0x30, 0);
        assert!(!driver.place_queue(size, addresses), "{size} {addresses:x?}");
        driver.write(0x70, 15);
        driver.failed();
        assert_eq!(driver.status(), 15 | 64);
    }
    let mut driver = agreed();
    driver.write(0x30, 7);
    assert_eq!(driver.read(0x34), 0);
    assert!(!driver.place_queue(16, good), "no such queue");
    driver.write(0x30, 0);
    assert!(driver.place_queue(16, good));
    driver.write(0x38, 3);
    driver.write(0x70, 15);
    assert_eq!(driver.status(), 15, "an enabled queue does not change");
}

#[test]
fn a_device_works_again_after_a_reset() {
    let mut driver = Driver::ready(rng());
    for _ in 0..3 {
        let space = driver.space(32);
        assert_eq!(driver.request(0, &[space]), 32);
        driver.write(0x70, 0);
        assert_eq!([driver.status(), driver.read(0x60), driver.read(0x44)], [0; 3]);
        driver.negotiate(u64::MAX);
    }
}

#[test]
fn a_corrupt_ring_stops_only_until_reset() {
    let mut driver = Driver::ready(rng());
    driver.corrupt_index(0, 1000);
    driver.failed();
    driver.negotiate(u64::MAX);
    driver.offer(0, 500);
    driver.failed();
    driver.negotiate(u64::MAX);
    let space = driver.space(8);
    assert_eq!(driver.request(0, &[space]), 8);
    driver.write(0x50, 9);
}

#[test]
fn a_worker_that_can_not_start_fails_the_device() {
    let spawner = Spawner::new(|_| Err(io::ErrorKind::PermissionDenied.into()));
    let mut driver = Driver::ready(rng::device(&spawner).unwrap());
    driver.failed();
    driver.write(0x70, 0);
    assert_eq!(driver.status(), 0);
}

#[test]
fn configuration_is_shown_and_can_not_be_written() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let disk = crate::blk::device(&spawner(), file, true, "").unwrap();
    let mut driver = Driver::new(disk);
    driver.transport.write(0x100, &[0; 8]);
    driver.write(0x100, 7);
    assert_eq!([driver.read(0x100), driver.read(0x104)], [2048, 0]);
    assert_eq!([driver.read(0x100 + 56), driver.read(0x100 + 60)], [1, 0]);
}
