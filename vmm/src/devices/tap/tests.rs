//! Real taps, in a network namespace of the test's own: their requests, and packets through
//! the device from and to the host's network.

use std::fs::OpenOptions;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use rustix::thread::UnshareFlags;
use virtio::net::{self, NetConfig};
use virtio::worker::Spawner;

use super::*;
use crate::fake_driver::Driver;

const TUNSETIFF: c_ulong = 0x4004_54ca;
const TUNSETVNETHDRSZ: c_ulong = 0x4004_54d8;

/// One more queue of the tap `cuddy0` in the thread's network namespace.
fn queue(flags: c_int, header: c_int) -> File {
    let tap = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let tap = tap.expect("/dev/net/tun is missing: load the tun module");
    let mut request = empty();
    for (to, from) in request.ifr_name.iter_mut().zip(b"cuddy0") {
        *to = i8::try_from(*from).unwrap();
    }
    request.ifr_ifru.ifru_flags = flags.try_into().unwrap();
    // SAFETY: the kernel reads and writes an ifreq, and there is one.
    result(unsafe { ioctl_with_mut_ref(&tap, TUNSETIFF, &mut request) }).unwrap();
    // SAFETY: the kernel reads an int, and there is one.
    result(unsafe { ioctl_with_ref(&tap, TUNSETVNETHDRSZ, &header) }).unwrap();
    tap
}

/// Runs a test in a network namespace of its own, which ends with the thread.
fn apart(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: the flag that would make it unsafe, FILES, is not given.
        let left = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
        left.expect("leave the network namespace (are you root?)");
        test();
    });
    thread.join().unwrap();
}

#[test]
fn only_taps_with_the_right_header_pass() {
    apart(|| {
        check(&queue(NEEDED, 12)).unwrap();
        assert!(matches!(check(&queue(NEEDED, 10)), Err(TapError::Header(10))));
        let flags = libc::IFF_TAP | libc::IFF_NO_PI;
        assert!(matches!(check(&queue(flags, 12)), Err(TapError::Flags(_))));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(check(&file), Err(TapError::NotATap(_))));
    });
}

#[test]
fn offloads_and_queues_change() {
    apart(|| {
        let flags = NEEDED | libc::IFF_MULTI_QUEUE;
        let [first, second] = [queue(flags, 12), queue(flags, 12)];
        set_offloads(&first, 0x07).unwrap();
        set_offloads(&first, 0).unwrap();
        assert!(set_offloads(&first, 1 << 31).is_err());
        set_queue(&second, false).unwrap();
        assert!(set_queue(&second, false).is_err());
        set_queue(&second, true).unwrap();
        set_offloads(&second, 0).unwrap();
    });
}

const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Bytes of the virtio, Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 12 + 14 + 20 + 8;

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.expect("ip is missing: install iproute2");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The sum that checksums of the Internet protocols are made of, not complemented.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// A UDP packet from 10.9.0.2 to 10.9.0.1 whose UDP checksum is left to the device.
fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    // Needs a checksum, from byte 34 on, at 6 bytes from there.
    let mut packet = vec![1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0];
    packet.extend(HOST_MAC);
    packet.extend(GUEST_MAC);
    packet.extend([8, 0]);
    let (source, target) = ([10, 9, 0, 2], [10, 9, 0, 1]);
    let mut header = vec![0x45, 0];
    header.extend((20 + length).to_be_bytes());
    header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    header.extend([source, target].concat());
    let checksum = !sum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(header);
    let pseudo = [&source[..], &target, &[0, 17], &length.to_be_bytes()].concat();
    for field in [9000, port, length, sum(&pseudo)] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

#[test]
fn packets_pass_between_the_driver_and_the_hosts_network() {
    apart(|| {
        let tap = queue(NEEDED, 12);
        check(&tap).unwrap();
        ip("link set cuddy0 address 02:00:00:00:00:01 mtu 1500 up");
        ip("addr add 10.9.0.1/24 dev cuddy0");
        ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev cuddy0");
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (taps, vhost, calls) = (vec![tap], Vec::new(), CALLS);
        let config = NetConfig { mac: GUEST_MAC, mtu: 1500, taps, vhost, calls };
        let mut driver = Driver::ready(net::device(&Spawner::new(|_| Ok(())), config).unwrap());

        let port = socket.local_addr().unwrap().port();
        let out = driver.out(&datagram(port, b"from the guest"));
        assert_eq!(driver.request(1, &[out]), 0);
        let mut bytes = [0; 100];
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"from the guest");
        assert_eq!(from.to_string(), "10.9.0.2:9000");

        let spaces: Vec<_> = (0..40).map(|_| driver.space(2048)).collect();
        for space in &spaces {
            driver.submit(0, &[*space]);
        }
        let payload: Vec<u8> =
            (0..1000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
        socket.send_to(&payload, "10.9.0.2:9000").unwrap();
        // The host says a few things by itself before, as every network does.
        let arrived = spaces.iter().find_map(|space| {
            let len = usize::try_from(driver.used(0).1).unwrap();
            let bytes = driver.bytes(*space);
            (len == HEADERS + 1000).then_some(bytes)
        });
        let bytes = arrived.unwrap();
        assert_eq!(bytes[10..12], [1, 0], "number of buffers");
        assert_eq!(bytes[12..24], [GUEST_MAC, HOST_MAC].concat());
        assert_eq!(bytes[HEADERS..HEADERS + 1000], payload);
    });
}
