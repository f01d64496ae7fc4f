//! What a guest knows that clones of one saved machine must not have in common: the guest's half of
//! `clones.rs`. It runs in a container of the clone and prints a line `probe NAME VALUE` for each.
//!
//! A TCP connection's first sequence number is a hash of its addresses and of the kernel's secret. The
//! wall clock is added to it in steps of 64 ns (kernel's net/core/secure_seq.c). Here it is taken away.
//! What is left is the same for the same secret and ports, but for the steps that it may be off.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, bind, connect, ipproto, recv,
    socket_with,
};
use rustix::rand::{GetRandomFlags, getrandom};

/// Ports of connections that nobody answers; from the first to the second of each pair.
const PORTS: [(u16, u16); 2] = [(40001, 40002), (40003, 40004)];

/// Steps of the clock in a sequence number, in bits of its nanoseconds.
const STEP: u32 = 6;

/// Where containers have this file's own executable, which is static.
pub(crate) const PLACE: &str = "/probe";

/// What has it run the function here.
pub(crate) const COMMAND: [&str; 5] = [PLACE, "--ignored", "--exact", "probe::tell", "--nocapture"];

/// What the lines begin with, among those of the test harness.
pub(crate) const PREFIX: &str = "probe ";

#[test]
#[ignore = "runs in a container"]
fn tell() {
    for (name, value) in known() {
        // The harness may have begun a line.
        println!("\n{PREFIX}{name} {value}");
    }
}

fn known() -> Vec<(&'static str, String)> {
    let mut read_bytes = [0; 32];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut read_bytes).unwrap();
    let mut asked_bytes = [0; 32];
    getrandom(&mut asked_bytes, GetRandomFlags::empty()).unwrap();
    let mut known = vec![
        ("urandom", hex(&read_bytes)),
        ("getrandom", hex(&asked_bytes)),
        ("boot_id", read("/proc/sys/kernel/random/boot_id")),
        ("hostname", read("/proc/sys/kernel/hostname")),
        ("uptime", read("/proc/uptime")),
    ];
    let raw = socket(SocketType::RAW, Some(ipproto::TCP));
    set_socket_timeout(&raw, Timeout::Recv, Some(Duration::from_secs(20))).unwrap();
    // Twice: what is the same in one guest is what others are compared by.
    for (from, to) in PORTS.into_iter().chain(PORTS) {
        let (secret, steps) = secret(&raw, from, to);
        known.push(("secret", format!("{from} {secret} {steps}")));
    }
    known.push(("wall", now().to_string()));
    known
}

fn socket(kind: SocketType, protocol: Option<Protocol>) -> OwnedFd {
    socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, protocol).unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap().trim().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nanoseconds since the Unix epoch.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_nanos().try_into().unwrap()
}

/// The part of a sequence number that is not the clock's, and by how many steps it may be off.
fn secret(raw: &OwnedFd, from: u16, to: u16) -> (u32, u32) {
    let socket = socket(SocketType::STREAM, None);
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, from)).unwrap();
    let before = now() >> STEP;
    // Refused: what counts is the first packet.
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, to)).unwrap_err();
    let after = now() >> STEP;
    let clock = u32::try_from(before & u64::from(u32::MAX)).unwrap();
    let number = first_number(raw, from, to);
    (number.wrapping_sub(clock), u32::try_from(after - before).unwrap())
}

/// The sequence number of the packet that opens a connection (RFC 9293 §3.1).
fn first_number(raw: &OwnedFd, from: u16, to: u16) -> u32 {
    const SYN: u8 = 2;
    loop {
        let mut packet = [0; 128];
        let (count, _) = recv(raw, &mut packet[..], RecvFlags::empty()).unwrap();
        let header = usize::from(packet[0] & 0xf) * 4;
        let Some(tcp) = packet[..count].get(header..header + 20) else { continue };
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        if (port(0), port(2), tcp[13]) == (from, to, SYN) {
            return u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        }
    }
}
