//! Linux guests: boot, memory, CPUs, devices that come and go.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use vmm_api::{BlockConfig, DeviceConfig, FdSlot, MachineEnd, Reply, Request, Window};

use super::client::{Output, Vmm};
use super::guest::linux;

/// Runs a guest until it powers off, and returns what it wrote.
fn run(script: &str, mib: u64, vcpus: u32) -> String {
    let output = Output::new();
    let script = format!("{script}\npoweroff -f");
    let mut vmm = Vmm::boot(&linux(&script, mib, &output).vcpus(vcpus));
    let end = vmm.end().0;
    assert_eq!(end, MachineEnd::PowerOff, "{}", output.text());
    output.text()
}

/// Memory that Linux has found, in KiB.
fn memory_of(text: &str) -> u64 {
    let line =
        text.lines().find(|line| line.contains("MemTotal:")).unwrap_or_else(|| panic!("{text}"));
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn smallest_machine_boots() {
    let text = run("cat /proc/meminfo", 64, 1);
    let found = memory_of(&text);
    assert!((24 << 10..64 << 10).contains(&found), "{found} KiB");
}

#[test]
fn memory_behind_the_hole_is_used() {
    let text = run("cat /proc/meminfo", 4096, 1);
    let found = memory_of(&text);
    assert!(found > 3800 << 10, "{found} KiB");
}

#[test]
fn one_cpu_is_online_and_the_others_come_and_go() {
    let script = "cd /sys/devices/system/cpu
echo present $(cat present) online $(cat online)
for cpu in 1 2 3; do echo 1 > cpu$cpu/online; done
echo then $(cat online), $(grep -c ^processor /proc/cpuinfo) processors
for cpu in 1 2 3; do echo cpu$cpu core $(cat cpu$cpu/topology/core_id) package $(cat cpu$cpu/topology/physical_package_id); done
echo 0 > cpu2/online
echo last $(cat online)
echo 1 > cpu2/online
echo again $(cat online)";
    let text = run(script, 128, 4);
    assert!(text.contains("present 0-3 online 0"), "{text}");
    assert!(text.contains("then 0-3, 4 processors"), "{text}");
    assert!(text.contains("cpu3 core 3 package 0"), "{text}");
    assert!(text.contains("last 0-1,3"), "{text}");
    assert!(text.contains("again 0-3"), "{text}");
}

#[test]
fn most_cpus_come_online() {
    let script = "cd /sys/devices/system/cpu
for cpu in cpu?/online cpu??/online; do echo 1 > $cpu; done
echo online $(cat online)";
    let text = run(script, 256, 32);
    assert!(text.contains("online 0-31"), "{text}");
}

#[test]
fn disk_is_attached_read_written_and_detached_at_run_time() {
    let output = Output::new();
    let script = "echo waiting
while ! bind LNRO0005:02 2>/dev/null || [ ! -e /dev/vdb ]; do unbind LNRO0005:02 2>/dev/null; sleep 0.1; done
echo found $(head -c 5 /dev/vdb) serial $(cat /sys/block/vdb/serial)
echo world | dd of=/dev/vdb bs=512 seek=1 conv=sync,fsync 2>/dev/null
unbind LNRO0005:02
[ -e /dev/vdb ] || echo gone
while :; do sleep 1; done";
    let mut vmm = Vmm::boot(&linux(script, 128, &output));
    output.wait_for("waiting");

    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"hello").unwrap();
    file.set_len(1 << 20).unwrap();
    let fds = [OwnedFd::from(file.try_clone().unwrap())];
    let disk = DeviceConfig::Block(BlockConfig::new(FdSlot(0), false, "late").unwrap());
    let window = Window::try_from(2).unwrap();
    assert_eq!(vmm.ask(&Request::Attach(disk), &fds), Reply::Attached(window));

    let text = output.wait_for("gone");
    assert!(text.contains("found hello serial late"), "{text}");
    assert_eq!(vmm.ask(&Request::Detach(window), &[]), Reply::Done);
    let Reply::Status(status) = vmm.ask(&Request::Status, &[]) else { panic!("no status") };
    assert!(!status.windows.contains(&window), "{status:?}");
    assert_eq!(&sector(&mut file, 1), b"world\n");
    assert_eq!(vmm.ask(&Request::Stop, &[]), Reply::Done);
    assert_eq!(vmm.end().0, MachineEnd::Stopped);
}

/// The first bytes of a sector.
fn sector(file: &mut File, number: u64) -> [u8; 6] {
    let mut bytes = [0; 6];
    file.seek(std::io::SeekFrom::Start(number * 512)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn windows_and_clock_are_found_without_complaints() {
    // What the agent does where a machine gets a seventeenth device.
    let script = "windows() { ls -d /sys/bus/platform/devices/LNRO0005:* | wc -l; }
echo windows $(windows)
mount -t configfs none /sys/kernel/config
mkdir /sys/kernel/config/acpi/table/others
tail -c +37 /sys/firmware/acpi/tables/CUDW > /sys/kernel/config/acpi/table/others/aml
while [ $(windows) -lt 64 ]; do sleep 0.1; done
echo windows $(windows)
ls -d /sys/bus/platform/devices/LNRO0005:3f
cat /sys/devices/system/clocksource/clocksource0/current_clocksource
dmesg";
    let text = run(script, 128, 2);
    let counts: Vec<_> = text.lines().filter(|line| line.starts_with("windows ")).collect();
    assert_eq!(counts, ["windows 16", "windows 64"], "{text}");
    assert!(text.contains("/LNRO0005:3f"), "{text}");
    assert!(text.contains("kvm-clock"), "{text}");
    for complaint in
        ["ACPI Error", "ACPI BIOS Error", "unchecked MSR", "WARNING: CPU", "Call Trace"]
    {
        assert!(!text.contains(complaint), "{complaint} in {text}");
    }
}

#[test]
fn early_serial_port_shows_the_first_messages() {
    let (output, serial) = (Output::new(), Output::new());
    let mut vmm = Vmm::boot(&linux("poweroff -f", 128, &output).serial(&serial));
    assert_eq!(vmm.end().0, MachineEnd::PowerOff, "{}", serial.text());
    assert!(serial.text().contains("Linux version"), "{}", serial.text());
    assert!(vmm.started.elapsed() < Duration::from_secs(60));
}
