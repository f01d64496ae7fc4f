//! Network devices: packets of all sizes in both directions. The VMM or the host's kernel moves
//! them, on one queue pair or on two. The device is there from boot on or attached later.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::thread::JoinHandle;

use vmm_api::{DeviceConfig, FdSlot, MachineEnd, NetConfig, Reply, Request, Window};

use super::client::{Boot, DEADLINE, Output, Vmm};
use super::guest::{disk, linux};
use super::tap;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Bytes that go each way.
const AMOUNT: usize = 8 << 20;

/// What a guest does with its interface: finds it, answers and sends packets of any size.
const GUEST: &str = "ip addr add 10.9.0.2/24 dev eth0
ip link set eth0 up
echo address $(cat /sys/class/net/eth0/address) mtu $(cat /sys/class/net/eth0/mtu)
ping -c 3 -W 20 10.9.0.1 | grep received
ping -c 3 -W 20 -s 1400 10.9.0.1 | grep received
nc 10.9.0.1 5000 < /dev/null | md5sum
dd if=/dev/zero bs=64k count=128 2>/dev/null | nc 10.9.0.1 5001
echo exchanged";

/// Who moves the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Vmm,
    Kernel,
}

/// Descriptors of a network device on a tap with so many queues, taps first.
fn descriptors(name: &str, queues: usize, by: By) -> Vec<OwnedFd> {
    let mut fds: Vec<OwnedFd> = tap::new(name, queues).into_iter().map(OwnedFd::from).collect();
    if by == By::Kernel {
        fds.extend((0..queues).map(|_| OwnedFd::from(vhost())));
    }
    fds
}

fn vhost() -> File {
    let file = OpenOptions::new().read(true).write(true).open("/dev/vhost-net");
    file.expect("/dev/vhost-net is missing: load the vhost_net module")
}

fn config(slots: &[FdSlot], queues: usize) -> DeviceConfig {
    let (taps, vhost) = slots.split_at(queues);
    DeviceConfig::Net(NetConfig::new(MAC, 1500, taps.to_vec(), vhost.to_vec()).unwrap())
}

/// A network device from boot on.
fn device(boot: &mut Boot, queues: usize, by: By) -> DeviceConfig {
    let slots: Vec<_> =
        descriptors("tap0", queues, by).into_iter().map(|fd| boot.slot(fd)).collect();
    config(&slots, queues)
}

/// The host's side: gives [`AMOUNT`] bytes on port 5000 and takes as many on port 5001, for so
/// many guests one after another. Must be made in the tap's namespace.
fn serve(rounds: usize) -> JoinHandle<()> {
    let [give, take] = [5000, 5001].map(|port| TcpListener::bind(("10.9.0.1", port)).unwrap());
    std::thread::spawn(move || {
        for _ in 0..rounds {
            let mut client = accept(&give);
            client.write_all(&vec![7; AMOUNT]).unwrap();
            drop(client);
            let mut bytes = Vec::new();
            accept(&take).read_to_end(&mut bytes).unwrap();
            assert!(bytes.len() == AMOUNT && bytes.iter().all(|byte| *byte == 0), "bytes changed");
        }
    })
}

fn accept(listener: &TcpListener) -> TcpStream {
    let client = listener.accept().unwrap().0;
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_write_timeout(Some(DEADLINE)).unwrap();
    client
}

/// MD5 of what the host gives.
const GIVEN: &str = "0060f6593824eacb6d4b9785b315167c";

fn exchanged(text: &str) {
    assert!(text.contains("address 02:00:00:00:00:09 mtu 1500"), "{text}");
    assert_eq!(text.matches("3 packets received").count(), 2, "{text}");
    assert!(text.contains(GIVEN), "{text}");
}

fn boots_with(queues: usize, by: By) {
    tap::apart(|| {
        let output = Output::new();
        let script = format!("{GUEST}\npoweroff -f");
        let boot = linux(&script, 128, &output).device(|boot| device(boot, queues, by));
        let server = serve(1);
        let mut vmm = Vmm::boot(&boot);
        assert_eq!(vmm.end().0, MachineEnd::PowerOff, "{}", output.text());
        exchanged(&output.text());
        server.join().unwrap();
    });
}

#[test]
fn packets_go_both_ways_by_the_vmm() {
    boots_with(1, By::Vmm);
}

#[test]
fn packets_go_both_ways_by_the_kernel() {
    boots_with(1, By::Kernel);
}

#[test]
fn a_tap_of_two_queues_works_with_one_cpu() {
    boots_with(2, By::Vmm);
}

/// Attaches a device of two queue pairs to a guest of two CPUs, uses and detaches it, so many times.
///
/// The guest is told when to look, by the first byte of a disk. If it only tried until it found a
/// device, it would bind its driver to the one that is just being taken out: there is nobody then
/// to answer the driver's first command, or to take its packets.
fn comes_and_goes(by: By, rounds: u8) {
    let script = format!(
        "echo 1 > /sys/devices/system/cpu/cpu1/online
for round in $(seq {rounds}); do
echo waiting $round
while [ $(head -c 1 /dev/vdb) != $round ]; do sleep 0.1; done
bind LNRO0005:03
ls -d /sys/class/net/eth0/queues/tx-1
{GUEST}
unbind LNRO0005:03
[ -e /sys/class/net/eth0 ] || echo gone $round
done
while :; do sleep 1; done"
    );
    tap::apart(|| {
        let (output, sign) = (Output::new(), tempfile::tempfile().unwrap());
        sign.write_all_at(&[b'0'; 512], 0).unwrap();
        let boot = linux(&script, 128, &output)
            .device(|boot| disk(boot, sign.try_clone().unwrap().into(), true));
        let mut vmm = Vmm::boot(&boot.vcpus(2));
        let window = Window::try_from(3).unwrap();
        for round in 1..=rounds {
            output.wait_for(&format!("waiting {round}"));
            let fds = descriptors("tap0", 2, by);
            let server = serve(1);
            let slots: Vec<_> = (0..).map(FdSlot).take(fds.len()).collect();
            let attach = Request::Attach(config(&slots, 2));
            assert_eq!(vmm.ask(&attach, &fds), Reply::Attached(window));
            drop(fds);
            sign.write_all_at(&[b'0' + round], 0).unwrap();
            output.wait_for(&format!("gone {round}"));
            assert_eq!(vmm.ask(&Request::Detach(window), &[]), Reply::Done);
            server.join().unwrap();
            // A tap lives as long as a descriptor of it; the next round's is to be a new one.
            harness::eventually("the tap is gone", || {
                !Command::new("ip")
                    .args(["link", "show", "tap0"])
                    .output()
                    .unwrap()
                    .status
                    .success()
            });
            let text = output.text();
            let (_, this) = text.split_once(&format!("waiting {round}")).unwrap();
            assert!(this.contains("queues/tx-1"), "{text}");
            exchanged(this);
        }
        vmm.ask(&Request::Stop, &[]);
        assert_eq!(vmm.end().0, MachineEnd::Stopped);
    });
}

#[test]
fn a_device_comes_and_goes_by_the_vmm() {
    comes_and_goes(By::Vmm, 3);
}

#[test]
fn a_device_comes_and_goes_by_the_kernel() {
    comes_and_goes(By::Kernel, 3);
}

#[test]
fn descriptors_that_are_no_taps_are_refused() {
    let output = Output::new();
    let mut vmm = Vmm::boot(&linux("while :; do sleep 1; done", 128, &output));
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    let error = vmm.refused(&Request::Attach(config(&[FdSlot(0)], 1)), &[file()]);
    assert!(error.message.contains("not that of a tap"), "{error:?}");
    let error = vmm.refused(&Request::Attach(config(&[FdSlot(0)], 1)), &[]);
    assert!(error.message.contains("slot 0 named"), "{error:?}");
}
