//! The product's own guest: kernel, root filesystem and agent up to ready, and what that costs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use vmm_api::{BlockConfig, DeviceConfig, Event, MachineEnd, Reply, Request};

use super::client::{Boot, Output, Vmm, installed, vmlinux};

/// Port of the agent's RPC server.
pub(crate) const RPC_PORT: u32 = 1024;

/// Memory of the VMM process without the guest's, in KiB: the budget of the design.
const BUDGET_KIB: u64 = 4096;

/// A machine like a pod's, listening for clients at `socket`.
fn pod(socket: &Path, output: &Output) -> Boot {
    let rootfs = File::open(installed("CUDDY_ROOTFS", "/opt/cuddy/share/cuddy/rootfs.erofs"));
    let rootfs = rootfs.unwrap().into();
    let listener = UnixListener::bind(socket).unwrap();
    Boot::new(vmlinux(), 256)
        .vcpus(2)
        .device(|boot| {
            let file = boot.slot(rootfs);
            DeviceConfig::Block(BlockConfig::new(file, true, "").unwrap())
        })
        .device(|boot| DeviceConfig::Vsock { listener: boot.slot(listener.into()) })
        .device(|boot| DeviceConfig::Console { output: boot.slot(output.writer()) })
        .device(|_| DeviceConfig::Rng)
}

#[test]
fn agent_says_that_it_is_ready_and_can_be_reached() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("vsock.sock");
    let output = Output::new();
    let mut vmm = Vmm::boot(&pod(&socket, &output));
    let ready = vmm.event();
    let elapsed = vmm.started.elapsed();
    let Event::GuestReady { since_exec_us, since_boot_us } = ready else {
        panic!("{ready:?}: {}", output.text())
    };
    assert!(since_boot_us < since_exec_us);
    assert!(u128::from(since_exec_us) <= elapsed.as_micros());

    let mut client = connect(&socket, RPC_PORT);
    let mut answer = String::new();
    BufReader::new(&client).read_line(&mut answer).unwrap();
    assert!(answer.starts_with("OK "), "{answer:?}");
    client.write_all(b"no ttrpc").unwrap();
    drop(client);

    // Nobody listens there, so the connection is closed without an answer.
    let mut refused = Vec::new();
    connect(&socket, 9).read_to_end(&mut refused).unwrap();
    assert_eq!(refused, b"");

    let memory = private_kib(vmm.child.id());
    println!("ready {since_exec_us} us after exec, {since_boot_us} us after boot; {memory} KiB");
    assert!(memory <= BUDGET_KIB, "{memory} KiB");
    assert_eq!(vmm.ask(&Request::Stop, &[]), Reply::Done);
    assert_eq!(vmm.end().0, MachineEnd::Stopped);
}

pub(crate) fn connect(socket: &Path, port: u32) -> UnixStream {
    let mut client = UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(super::client::DEADLINE)).unwrap();
    writeln!(client, "CONNECT {port}").unwrap();
    client
}

/// Proportional set size of a process in KiB, leaving out the guest's memory.
fn private_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut guest = false;
    let mut sum = 0;
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("Pss:") {
            let kib: u64 = value.trim().trim_end_matches(" kB").parse().unwrap();
            sum += if guest { 0 } else { kib };
        } else if line.contains('-') && !line.contains(": ") {
            // The kernel's file is mapped into the guest's memory.
            guest = line.contains("memfd:memory") || line.ends_with("vmlinux");
        }
    }
    sum
}
