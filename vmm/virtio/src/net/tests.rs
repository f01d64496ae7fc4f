//! The device against a driver of every kind. Datagram sockets stand for a tap's queues; the
//! real ones are met in `vmm/src/devices/tap.rs` and in the machine tests.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::*;
use crate::fake_driver::{Driver, NEXT, Piece, WRITE, spawner};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const F_VERSION_1: u64 = 1 << 32;

fn nothing(_: &File, _: u32) -> io::Result<()> {
    Ok(())
}

fn no_queue(_: &File, _: bool) -> io::Result<()> {
    Ok(())
}

fn no_vhost(_: &File, _: u32, _: Option<&File>) -> io::Result<()> {
    Ok(())
}

const CALLS: TapCalls =
    TapCalls { set_offloads: nothing, set_queue: no_queue, set_backend: no_vhost };

/// A device of `pairs` pairs and the far ends of its taps.
fn device_with(pairs: usize, calls: TapCalls) -> (Worker, Vec<UnixDatagram>) {
    let (taps, wires): (Vec<_>, Vec<_>) = (0..pairs).map(|_| UnixDatagram::pair().unwrap()).unzip();
    let taps = taps.into_iter().map(|tap| File::from(OwnedFd::from(tap))).collect();
    let config = NetConfig { mac: MAC, mtu: 1500, taps, vhost: Vec::new(), calls };
    (device(&spawner(), config).unwrap(), wires)
}

/// A driver with the features that `mask` allows, and the far end of the only tap.
fn net(mask: u64) -> (Driver, UnixDatagram) {
    let (device, mut wires) = device_with(1, CALLS);
    let mut driver = Driver::new(device);
    driver.negotiate(mask);
    (driver, wires.remove(0))
}

/// A packet with an empty header.
fn packet(payload: &[u8]) -> Vec<u8> {
    [&[0; HEADER], payload].concat()
}

fn received(wire: &UnixDatagram) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 17];
    let len = wire.recv(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn configuration_tells_address_link_pairs_and_mtu() {
    let (device, _wires) = device_with(3, CALLS);
    let mut driver = Driver::new(device);
    let word = |driver: &Driver, offset: u64| driver.read(0x100 + offset).to_le_bytes();
    assert_eq!(word(&driver, 0), MAC[..4]);
    assert_eq!(word(&driver, 4), [MAC[4], MAC[5], 1, 0]);
    assert_eq!(word(&driver, 8), [3, 0, 0xdc, 5]);
    assert_ne!(driver.offered() & F_MQ, 0);
    let (device, _wires) = device_with(1, CALLS);
    assert_eq!(Driver::new(device).offered() & F_MQ, 0);
}

#[test]
fn packets_go_out_whole_however_they_are_cut() {
    let (mut driver, wire) = net(u64::MAX);
    let bytes = packet(&(0..=255).collect::<Vec<u8>>());
    let pieces = [driver.out(&bytes[..5]), driver.out(&bytes[5..20]), driver.out(&bytes[20..])];
    assert_eq!(driver.request(1, &pieces), 0);
    assert_eq!(received(&wire), bytes);
}

#[test]
fn no_packet_is_too_short_or_too_long() {
    let (mut driver, wire) = net(u64::MAX);
    let short = driver.out(&[0; HEADER - 1]);
    driver.request(1, &[short]);
    let long = driver.out(&vec![0; HEADER + MAX_FRAME + 1]);
    driver.request(1, &[long]);
    // A few pages many times over.
    let page = driver.out(&[0; 4096]);
    driver.request(1, &[page; 200]);
    let outside = Piece { address: 1 << 40, len: 64, writable: false };
    driver.request(1, &[outside]);
    let writable = driver.space(64);
    driver.request(1, &[writable]);
    let last = driver.out(&packet(b"last"));
    driver.request(1, &[last]);
    assert_eq!(received(&wire), packet(b"last"));
}

#[test]
fn a_small_packet_uses_one_buffer_and_the_rest_is_kept() {
    let (mut driver, wire) = net(u64::MAX);
    let spaces: Vec<_> = (0..60).map(|_| driver.space(1536)).collect();
    let heads: Vec<_> = spaces.iter().map(|space| driver.submit(0, &[*space])).collect();
    for number in 0..3_u8 {
        wire.send(&packet(&[number; 100])).unwrap();
        assert_eq!(driver.used(0), (heads[usize::from(number)], 112));
        let bytes = driver.bytes(spaces[usize::from(number)]);
        assert_eq!(bytes[HEADER_BUFFERS], [1, 0]);
        assert_eq!(bytes[12..112], [number; 100]);
    }
    assert!(driver.poll_used(0).is_none());
}

const HEADER_BUFFERS: std::ops::Range<usize> = 10..12;

#[test]
fn a_large_packet_is_spread_over_buffers_that_appear_together() {
    let (mut driver, wire) = net(u64::MAX);
    let spaces: Vec<_> = (0..60).map(|_| driver.space(2048)).collect();
    for space in &spaces {
        driver.submit(0, &[*space]);
    }
    let payload: Vec<u8> = (0..60_000_u32).map(|number| (number % 251) as u8).collect();
    wire.send(&packet(&payload)).unwrap();
    let mut bytes = Vec::new();
    let (_, first) = driver.used(0);
    bytes.extend(&driver.bytes(spaces[0])[..first as usize]);
    let count = u16::from_le_bytes([bytes[10], bytes[11]]);
    assert_eq!(count, 30);
    for space in &spaces[1..count.into()] {
        // No waiting: they are there as soon as the first one is.
        let (_, len) = driver.poll_used(0).unwrap();
        bytes.extend(&driver.bytes(*space)[..len as usize]);
    }
    assert_eq!(bytes[HEADER..], payload);
    assert!(driver.poll_used(0).is_none());
}

#[test]
fn a_driver_without_extras_gets_a_packet_per_buffer_and_no_flags() {
    let (mut driver, wire) = net(F_VERSION_1);
    let spaces = [driver.space(1526), driver.space(1526)];
    for space in spaces {
        let parts =
            [Piece { len: 12, ..space }, Piece { address: space.address + 12, len: 1514, ..space }];
        driver.submit(0, &parts);
    }
    for (number, space) in (1..).zip(spaces) {
        let mut bytes = packet(&[number; 1000]);
        bytes[0] = 2; // VIRTIO_NET_HDR_F_DATA_VALID
        wire.send(&bytes).unwrap();
        assert_eq!(driver.used(0).1, 1012);
        bytes[0] = 0;
        bytes[10] = 1;
        assert_eq!(driver.bytes(space)[..1012], bytes);
    }
}

#[test]
fn packets_wait_for_buffers() {
    let (mut driver, wire) = net(F_VERSION_1);
    for number in 0..10 {
        wire.send(&packet(&[number; 60])).unwrap();
    }
    for number in 0..10 {
        let space = driver.space(1526);
        assert_eq!(driver.request(0, &[space]), 72);
        assert_eq!(driver.bytes(space)[12..72], [number; 60]);
    }
}

#[test]
fn buffers_that_make_no_sense_come_back_empty() {
    let (mut driver, wire) = net(u64::MAX);
    let tiny = driver.space(HEADER as u32 - 1);
    assert_eq!(driver.request(0, &[tiny]), 0);
    let readable = driver.out(&[0; 2000]);
    assert_eq!(driver.request(0, &[readable]), 0);
    let outside = Piece { address: 1 << 40, len: 2000, writable: true };
    assert_eq!(driver.request(0, &[outside]), 0);
    // More pieces than a system call takes: 6 buffers of 200, of which the last one is too many.
    let byte = driver.space(64);
    let pieces = [Piece { len: 13, ..byte }; 200];
    let heads: Vec<_> = (0..1).map(|_| driver.submit(0, &pieces)).collect();
    assert_eq!(heads.len(), 1);
    let space = driver.space(1 << 17);
    driver.submit(0, &[space]);
    wire.send(&packet(&[1; 60])).unwrap();
    assert_eq!(driver.used(0), (heads[0], 72));
}

#[test]
fn a_broken_queue_stops_the_device_and_a_reset_heals_it() {
    let (mut driver, wire) = net(u64::MAX);
    driver.corrupt_index(0, 1000);
    driver.failed();
    driver.negotiate(u64::MAX);
    // A loop of descriptors is no broken queue, only a broken buffer.
    let space = driver.space(64);
    driver.put_descriptor(0, 0, (space.address, 64, NEXT | WRITE, 0));
    driver.offer(0, 0);
    assert_eq!(driver.used(0), (0, 0));
    for _ in 0..2 {
        let large = driver.space(1 << 17);
        driver.submit(0, &[large]);
    }
    wire.send(&packet(b"again")).unwrap();
    assert_eq!(driver.used(0).1, 17);
}

#[test]
fn reset_forgets_buffers_of_the_driver_before() {
    let (mut driver, wire) = net(u64::MAX);
    let old = driver.space(1 << 17);
    driver.submit(0, &[old]);
    wire.send(&packet(b"first")).unwrap();
    driver.used(0);
    driver.submit(0, &[old]);
    driver.negotiate(u64::MAX);
    wire.send(&packet(b"second")).unwrap();
    let new = driver.space(1 << 17);
    driver.request(0, &[new]);
    assert_eq!(driver.bytes(new)[12..18], *b"second");
}

/// Gives a command to the control queue and returns the answer.
fn command(driver: &mut Driver, queue: usize, bytes: &[u8]) -> u8 {
    let (out, answer) = (driver.out(bytes), driver.space(1));
    assert_eq!(driver.request(queue, &[out, answer]), 1);
    driver.bytes(answer)[0]
}

/// Packets both ways on all pairs.
fn exchange(driver: &mut Driver, wires: &[UnixDatagram]) {
    for (pair, wire) in wires.iter().enumerate() {
        let space = driver.space(1 << 17);
        driver.submit(2 * pair, &[space]);
        wire.send(&packet(b"in")).unwrap();
        driver.used(2 * pair);
        assert_eq!(driver.bytes(space)[12..14], *b"in");
        let out = driver.out(&packet(b"out"));
        driver.request(2 * pair + 1, &[out]);
        assert_eq!(received(wire), packet(b"out"));
    }
}

#[test]
fn packets_behind_one_that_makes_no_sense_arrive() {
    let (mut driver, wire) = net(u64::MAX);
    // Before the device looks, so that one look finds both.
    for lost in [&[][..], &[0; 5]] {
        wire.send(lost).unwrap();
    }
    wire.send(&packet(b"good")).unwrap();
    let space = driver.space(1 << 17);
    driver.submit(0, &[space]);
    assert_eq!(driver.used(0).1, 16);
}

#[test]
fn pairs_are_used_as_the_driver_says() {
    static IN_USE: AtomicUsize = AtomicUsize::new(3);
    fn count(_: &File, in_use: bool) -> io::Result<()> {
        if in_use {
            IN_USE.fetch_add(1, Ordering::SeqCst)
        } else {
            IN_USE.fetch_sub(1, Ordering::SeqCst)
        };
        Ok(())
    }
    let (device, wires) = device_with(3, TapCalls { set_queue: count, ..CALLS });
    let mut driver = Driver::ready(device);
    let in_use = || IN_USE.load(Ordering::SeqCst);
    for refused in [0_u8, 4, 255] {
        assert_eq!(command(&mut driver, 6, &[4, 0, refused, 0]), control::ERROR);
    }
    assert_eq!(in_use(), 1);
    assert_eq!(command(&mut driver, 6, &[4, 0, 3, 0]), control::OK);
    assert_eq!(in_use(), 3);
    exchange(&mut driver, &wires);
    assert_eq!(command(&mut driver, 6, &[4, 0, 2, 0]), control::OK);
    assert_eq!(in_use(), 2);
    driver.negotiate(u64::MAX);
    assert_eq!(command(&mut driver, 6, &[4, 0, 1, 0]), control::OK);
    assert_eq!(in_use(), 1);
    assert_eq!(command(&mut driver, 6, &[4, 0, 3, 0]), control::OK);
    exchange(&mut driver, &wires);
}

#[test]
fn a_driver_that_knows_of_one_pair_has_its_control_queue_third() {
    let (device, _wires) = device_with(2, CALLS);
    let mut driver = Driver::new(device);
    driver.negotiate_queues(!F_MQ, 3);
    assert_eq!(command(&mut driver, 2, &[4, 0, 1, 0]), control::ERROR);
    assert_eq!(command(&mut driver, 2, &[5, 0, 2, 0, 0, 0, 0, 0, 0, 0]), control::OK);
}

#[test]
fn queues_of_pairs_that_the_driver_does_not_know_of_are_refused() {
    let (device, _wires) = device_with(2, CALLS);
    let mut driver = Driver::new(device);
    for count in [4, 5] {
        driver.negotiate_queues(!F_MQ, count);
        // The position behind the last pair, where no tap is.
        driver.write(0x50, 4);
        driver.failed();
    }
    driver.negotiate_queues(!F_MQ, 3);
    assert_eq!(command(&mut driver, 2, &[5, 0, 2, 0, 0, 0, 0, 0, 0, 0]), control::OK);
}

#[test]
fn offloads_are_the_drivers() {
    static OFFLOADS: AtomicU32 = AtomicU32::new(99);
    fn note(_: &File, offloads: u32) -> io::Result<()> {
        OFFLOADS.store(offloads, Ordering::SeqCst);
        Ok(())
    }
    let (device, _wires) = device_with(1, TapCalls { set_offloads: note, ..CALLS });
    let mut driver = Driver::new(device);
    let offloads = || OFFLOADS.load(Ordering::SeqCst);
    assert_eq!(offloads(), 0);
    driver.negotiate(!bits::USO);
    let without = |bit: u64| (GUEST_OFFLOADS & !bits::USO & !bit).to_le_bytes();
    let change =
        |driver: &mut Driver, bits: [u8; 8]| command(driver, 2, &[&[5, 0], &bits[..]].concat());
    assert_eq!(change(&mut driver, without(bits::F_GUEST_TSO6)), control::OK);
    assert_eq!(offloads(), 0x03);
    // Not negotiated, and cut short.
    assert_eq!(change(&mut driver, GUEST_OFFLOADS.to_le_bytes()), control::ERROR);
    assert_eq!(command(&mut driver, 2, &[5, 0, 1]), control::ERROR);
    assert_eq!(command(&mut driver, 2, &[9]), control::ERROR);
    assert_eq!(offloads(), 0x03);
    assert_eq!(change(&mut driver, without(0)), control::OK);
    assert_eq!(offloads(), 0x07);
}

#[test]
fn a_driver_can_not_change_the_tap_without_end() {
    let (mut driver, _wire) = net(!bits::USO);
    let some = bits::F_GUEST_CSUM.to_le_bytes();
    let flip = |driver: &mut Driver| {
        let answers = [some, [0; 8]].map(|bits| command(driver, 2, &[&[5, 0], &bits[..]].concat()));
        answers == [control::OK; 2]
    };
    let changes = (0..100).take_while(|_| flip(&mut driver)).count();
    assert!((4..100).contains(&changes), "{changes}");
    // The reset does not give it more.
    driver.negotiate(!bits::USO);
    driver.failed();
}

#[test]
fn unusable_buffers_without_end_do_not_keep_the_thread() {
    let (mut driver, wire) = net(u64::MAX);
    let tiny = driver.space(1);
    for _ in 0..2000 {
        driver.submit_silently(0, &[tiny]);
        driver.submit(0, &[tiny]);
        assert_eq!([driver.used(0).1, driver.used(0).1], [0, 0]);
    }
    for _ in 0..2 {
        let space = driver.space(1 << 16);
        driver.submit(0, &[space]);
    }
    wire.send(&packet(b"last")).unwrap();
    assert_eq!(driver.used(0).1, 16);
}

#[test]
fn old_kernels_have_no_udp_segmentation() {
    fn old(_: &File, offloads: u32) -> io::Result<()> {
        if offloads & 0x60 == 0 { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }
    let (device, _wires) = device_with(1, TapCalls { set_offloads: old, ..CALLS });
    assert_eq!(Driver::new(device).offered() & bits::USO, 0);
    let (device, _wires) = device_with(1, CALLS);
    assert_eq!(Driver::new(device).offered() & bits::USO, bits::USO);
}

#[test]
fn a_descriptor_that_is_no_tap_is_refused() {
    fn refuse(_: &File, _: u32) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
    let (tap, _wire) = UnixDatagram::pair().unwrap();
    let taps = vec![File::from(OwnedFd::from(tap))];
    let calls = TapCalls { set_offloads: refuse, ..CALLS };
    let config = NetConfig { mac: MAC, mtu: 1500, taps, vhost: Vec::new(), calls };
    assert!(matches!(device(&spawner(), config), Err(DeviceError::Host { .. })));
}

#[test]
fn a_flood_from_the_network_does_not_delay_a_reset() {
    let (mut driver, wire) = net(F_VERSION_1);
    wire.set_nonblocking(true).unwrap();
    let space = driver.space(1526);
    for _ in 0..100 {
        driver.submit_silently(0, &[space]);
    }
    driver.write(0x50, 0);
    while wire.send(&packet(&[1; 60])).is_ok() {}
    driver.write(0x70, 0);
    assert_eq!(driver.status(), 0);
    let mut rest = File::from(OwnedFd::from(wire));
    let _ = (rest.write(&[0]), rest.read(&mut []));
}
