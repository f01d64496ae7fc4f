//! Devices that are parked in the middle of what they do, and go on elsewhere: nothing is lost,
//! nothing done twice.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::GuestAddress;

use super::*;
use crate::fake_driver::{Driver, MEMORY, Piece, spawner};
use crate::worker::Worker;
use crate::{blk, console, rng};

fn rng() -> Worker {
    rng::device(&spawner()).unwrap()
}

/// A disk on which each sector has its number.
fn disk(sectors: u32, read_only: bool) -> Worker {
    let mut file = tempfile::tempfile().unwrap();
    for sector in 0..sectors {
        file.write_all(&[sector.to_le_bytes(); 128].concat()).unwrap();
    }
    blk::device(&spawner(), file, read_only, "").unwrap()
}

fn console() -> (Worker, File, Arc<AtomicU64>) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let dropped = Arc::default();
    let device = console::device(&spawner(), File::from(writer), Arc::clone(&dropped)).unwrap();
    (device, File::from(reader), dropped)
}

/// A state as it is after a file.
fn state_of(driver: &mut Driver) -> TransportState {
    let state = driver.transport.park().unwrap();
    let bytes = postcard::to_stdvec(&state).unwrap();
    let read: TransportState = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(read, state);
    read
}

/// What comes of a device that goes on from a state.
fn restore(
    device: impl Device + 'static,
    driver: &Driver,
    state: &TransportState,
) -> Result<MmioTransport, RestoreError> {
    let line = Arc::new(EventFd::new(0).unwrap());
    let shadow = crate::shadow::Shadows::new(1).window(0);
    MmioTransport::restore(Box::new(device), driver.memory.clone(), line, shadow, state)
}

#[test]
fn reads_under_way_are_all_done_and_done_once() {
    let mut driver = Driver::ready(disk(64, true));
    let mut asked = std::collections::HashMap::new();
    for round in 0..6_u32 {
        for number in 0..40 {
            let sector: u32 = (number * 7 + round) % 64;
            let header = driver.out(&[[0; 8], u64::from(sector).to_le_bytes()].concat());
            let (data, status) = (driver.space(512), driver.space(1));
            let head = driver.submit(0, &[header, data, status]);
            assert!(asked.insert(head, (sector, data, status)).is_none());
        }
        // Somewhere between the first request and the last.
        driver = driver.moved_to(disk(64, true));
        for _ in 0..40 {
            let (head, len) = driver.used(0);
            let (sector, data, status) = asked.remove(&head).expect("a request is done twice");
            assert_eq!((len, driver.bytes(status)), (513, vec![0]));
            assert_eq!(driver.bytes(data), [sector.to_le_bytes(); 128].concat());
        }
        assert!(asked.is_empty() && driver.poll_used(0).is_none());
    }
}

#[test]
fn requests_that_nobody_was_told_of_are_served() {
    let mut driver = Driver::ready(rng());
    let space = driver.space(32);
    assert_eq!(driver.request(0, &[space]), 32);
    driver.submit_silently(0, &[space]);
    let mut driver = driver.moved_to(rng());
    assert_eq!(driver.used(0).1, 32);
    for _ in 0..40 {
        assert_eq!(driver.request(0, &[space]), 32);
    }
}

#[test]
fn output_is_written_once_here_or_there() {
    let (device, mut before, _) = console();
    let mut driver = Driver::ready(device);
    let mut wanted = String::new();
    for number in 0..30 {
        let line = format!("line {number}\n");
        let piece = driver.out(line.as_bytes());
        driver.submit(1, &[piece]);
        wanted.push_str(&line);
    }
    let (device, mut after, dropped) = console();
    let mut driver = driver.moved_to(device);
    for _ in 0..30 {
        driver.used(1);
    }
    drop(driver);
    let mut written = String::new();
    before.read_to_string(&mut written).unwrap();
    after.read_to_string(&mut written).unwrap();
    assert_eq!((written, dropped.load(Ordering::Relaxed)), (wanted, 0));
}

#[test]
fn a_driver_that_waits_for_an_interrupt_gets_one() {
    let mut driver = Driver::ready(rng());
    let space = driver.space(8);
    driver.request(0, &[space]);
    let mut driver = driver.moved_to(rng());
    assert_eq!(driver.interrupt(), INTERRUPT_USED_RING);
    assert!(driver.poll_used(0).is_none());
}

#[test]
fn notifications_by_index_are_armed_again() {
    let mut driver = Driver::ready(disk(4, true));
    let header = driver.out(&[0; 16]);
    let (data, status) = (driver.space(512), driver.space(1));
    driver.request(0, &[header, data, status]);
    driver.submit_silently(0, &[header, data, status]);
    let mut driver = driver.moved_to(disk(4, true));
    assert_eq!(driver.used(0).1, 513);
    // The device says so a moment after it has given the buffer back.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !driver.would_notify(0) {
        assert!(std::time::Instant::now() < deadline, "the driver would never notify the device");
        std::thread::yield_now();
    }
}

#[test]
fn registers_are_as_they_were() {
    let mut driver = Driver::new(rng());
    driver.write(0x70, 1);
    driver.write(0x70, 3);
    driver.write(0x14, 1);
    driver.write(0x30, 5);
    let mut driver = driver.moved_to(rng());
    // The upper features, and no such queue.
    assert_eq!([driver.status(), driver.read(0x10), driver.read(0x34)], [3, 1, 0]);
    driver.accept(super::super::VIRTIO_F_VERSION_1);
    driver.write(0x70, 11);
    driver.set_up_queues(u32::MAX);
    let mut driver = driver.moved_to(rng());
    driver.write(0x30, 0);
    assert_eq!([driver.status(), driver.read(0x44), driver.read(0x60)], [11, 1, 0]);
    driver.write(0x70, 15);
    let space = driver.space(16);
    assert_eq!(driver.request(0, &[space]), 16);
    driver.write(0x70, 0);
    assert_eq!([driver.status(), driver.read(0x60)], [0, 0]);
}

#[test]
fn a_device_that_is_not_saved_after_all_goes_on() {
    let mut driver = Driver::ready(rng());
    let space = driver.space(24);
    for _ in 0..3 {
        driver.request(0, &[space]);
        let state = driver.transport.park().unwrap();
        driver.submit(0, &[space]);
        assert!(driver.poll_used(0).is_none(), "a parked device touches nothing");
        driver.transport.unpark(&state);
        assert_eq!(driver.used(0).1, 24);
    }
    let state = driver.transport.park().unwrap();
    driver.transport.unpark(&state);
    driver.write(0x70, 0);
    driver.negotiate(u64::MAX);
    assert_eq!(driver.request(0, &[space]), 24);
}

#[test]
fn writable_disks_shares_and_failed_devices_are_refused_by_name() {
    let mut driver = Driver::ready(disk(4, false));
    let error = driver.transport.park().unwrap_err();
    assert!(error.to_string().starts_with("vio-blk: what is on a writable disk"), "{error}");
    let header = driver.out(&[0; 16]);
    let (data, status) = (driver.space(512), driver.space(1));
    assert_eq!(driver.request(0, &[header, data, status]), 513, "it goes on");

    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_path_buf();
    let config = crate::fs::FsConfig { tag: "share".to_owned(), root, max_files: 64 };
    let mut share = Driver::new(crate::fs::device(&spawner(), &config).unwrap());
    let error = share.transport.park().unwrap_err();
    assert!(error.to_string().starts_with("vio-fs: "), "{error}");

    let mut failed = Driver::ready(rng());
    failed.corrupt_index(0, 1000);
    failed.failed();
    assert_eq!(failed.transport.park().unwrap_err(), ParkError::Failed);
}

#[test]
fn another_device_is_refused() {
    let mut driver = Driver::ready(disk(8, true));
    let state = state_of(&mut driver);
    let error = restore(rng(), &driver, &state).unwrap_err();
    assert!(matches!(error, RestoreError::Kind { saved: 2, found: 4 }), "{error}");
    let error = restore(disk(9, true), &driver, &state).unwrap_err();
    assert!(error.to_string().contains("give it the same host side"), "{error}");
    assert!(restore(disk(8, true), &driver, &state).is_ok());
}

/// A way to change a state, what it leads to, and what it is.
type Change = (fn(&mut TransportState), fn(&RestoreError) -> bool, &'static str);

/// Whoever has written the file, or the guest that chose the values.
#[test]
fn states_that_no_driver_can_reach_are_refused() {
    let status = |error: &RestoreError| matches!(error, RestoreError::Status { .. });
    let queues = |error: &RestoreError| matches!(error, RestoreError::Queues { .. });
    let features = |error: &RestoreError| matches!(error, RestoreError::Features { .. });
    let changes: [Change; 14] = [
        (|state| state.status = 4, status, "ready without the steps before"),
        (|state| state.status = 15 | 64, status, "needs a reset"),
        (|state| state.status = 15 | 1 << 20, status, "unknown status bit"),
        (|state| state.interrupt_status = 0, status, "active, and no used buffers show"),
        (|state| state.interrupt_status = 1 << 7 | 1, status, "unknown reason"),
        (|state| state.driver_features |= 1 << 40, features, "accepted and not offered"),
        (|state| state.driver_features = 0, features, "no modern driver"),
        (|state| state.queues.clear(), queues, "no queues"),
        (|state| state.queues.push(state.queues[0]), queues, "too many queues"),
        (|state| state.parked.positions.clear(), queues, "no places"),
        (|state| state.parked.positions.push(state.parked.positions[0]), queues, "two places"),
        (|state| state.queues[0].ready = false, queues, "a place in a queue that is not ready"),
        (|state| state.status = 3, queues, "places without a device that is active"),
        (
            |state| {
                (state.status, state.interrupt_status, state.parked) = (3, 0, Parked::default())
            },
            status,
            "a queue that is ready before features were agreed on",
        ),
    ];
    let mut driver = Driver::ready(rng());
    let good = state_of(&mut driver);
    for (change, expected, what) in changes {
        let mut state = good.clone();
        change(&mut state);
        match restore(rng(), &driver, &state) {
            Ok(_) => panic!("{what}: taken"),
            Err(error) => assert!(expected(&error), "{what}: {error}"),
        }
    }
    assert!(restore(rng(), &driver, &good).is_ok());
}

#[test]
fn rings_outside_of_memory_are_refused() {
    let mut driver = Driver::ready(rng());
    let good = state_of(&mut driver);
    let json = serde_json::to_value(&good).unwrap();
    let changes = [
        ("size", 3),
        ("size", 32),
        ("size", 0),
        ("descriptors", MEMORY),
        ("descriptors", 8),
        ("driver", MEMORY - 8),
        ("driver", u64::MAX - 1),
        ("device", 0),
        ("device", 0x3002),
    ];
    for (field, value) in changes {
        let mut json = json.clone();
        json["queues"][0][field] = value.into();
        let state: TransportState = serde_json::from_value(json).unwrap();
        let error = restore(rng(), &driver, &state).map(drop).unwrap_err();
        assert!(matches!(error, RestoreError::Queue { index: 0, .. }), "{field} {value}: {error}");
    }
}

/// Only the ring in memory can tell that a place makes no sense.
#[test]
fn a_place_that_the_ring_contradicts_fails_the_device() {
    let mut driver = Driver::ready(rng());
    let space = driver.space(8);
    driver.request(0, &[space]);
    let mut state = state_of(&mut driver);
    state.parked.positions[0].next_avail = 40_000;
    let line = Arc::new(EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK).unwrap());
    let shadow = crate::shadow::Shadows::new(1).window(0);
    let (memory, shown) = (driver.memory.clone(), shadow.clone());
    let transport = MmioTransport::restore(Box::new(rng()), memory, line, shadow, &state).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while shown.read(registers::STATUS) & status::DEVICE_NEEDS_RESET == 0 {
        assert!(std::time::Instant::now() < deadline, "the device goes on");
        std::thread::yield_now();
    }
    drop(transport);
    let outside = Piece { address: space.address, len: 8, writable: true };
    assert_eq!(driver.bytes(outside).len(), 8);
    assert!(vm_memory::GuestMemory::address_in_range(&driver.memory, GuestAddress(0)));
}
