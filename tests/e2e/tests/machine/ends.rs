//! Every way in which a machine can end, its event and its exit code.

use std::os::fd::OwnedFd;

use vmm_api::{Event, MachineEnd, MachineState, MachineStatus, Reply, Request};

use super::client::{Boot, Output, Vmm};
use super::guest::linux;
use super::kernels;

fn end_of(kernel: OwnedFd) -> (MachineEnd, Option<i32>) {
    let mut vmm = Vmm::boot(&Boot::new(kernel, 64));
    let (end, status) = vmm.end();
    (end, status.code())
}

#[test]
fn sleep_register_is_a_power_off() {
    assert_eq!(end_of(kernels::out(0x604, 0x34)), (MachineEnd::PowerOff, Some(0)));
}

#[test]
fn reset_register_is_a_reset() {
    assert_eq!(end_of(kernels::out(0x600, 1)), (MachineEnd::Reset, Some(10)));
}

#[test]
fn panic_device_is_a_panic() {
    let mut vmm = Vmm::boot(&Boot::new(kernels::out(0x505, 1), 64));
    assert_eq!(vmm.event(), Event::Panicked);
    assert_eq!(vmm.event(), Event::Ended(MachineEnd::Panic));
    assert_eq!(vmm.child.wait().unwrap().code(), Some(11));
}

#[test]
fn exception_without_handlers_is_a_triple_fault() {
    assert_eq!(end_of(kernels::triple_fault()), (MachineEnd::TripleFault, Some(12)));
}

#[test]
fn code_outside_of_memory_is_a_kvm_internal_error() {
    let (end, code) = end_of(kernels::jump_to_nothing());
    assert_eq!(end, MachineEnd::KvmInternalError { suberror: 1 });
    assert_eq!(code, Some(13));
}

#[test]
fn stop_ends_spinning_vcpus() {
    let mut vmm = Vmm::boot(&Boot::new(kernels::spin(), 64).vcpus(4));
    assert_eq!(vmm.ask(&Request::Stop, &[]), Reply::Done);
    let (end, status) = vmm.end();
    assert_eq!(end, MachineEnd::Stopped);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn closed_control_socket_ends_the_machine() {
    let vmm = Vmm::boot(&Boot::new(kernels::spin(), 64));
    assert_eq!(vmm.hang_up().code(), Some(0));
}

#[test]
fn paused_machine_stands_still_and_goes_on() {
    let mut vmm = Vmm::boot(&Boot::new(kernels::spin(), 64).vcpus(2));
    assert_eq!(vmm.ask(&Request::Pause, &[]), Reply::Done);
    assert_eq!(vmm.ask(&Request::Pause, &[]), Reply::Done);
    let paused = MachineStatus { state: MachineState::Paused, windows: vec![] };
    assert_eq!(vmm.ask(&Request::Status, &[]), Reply::Status(paused));
    let before = cpu_ticks(vmm.child.id());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(cpu_ticks(vmm.child.id()) <= before + 1, "a paused machine uses the CPU");
    assert_eq!(vmm.ask(&Request::Resume, &[]), Reply::Done);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(cpu_ticks(vmm.child.id()) > before + 1, "a resumed machine does not run");
    assert_eq!(vmm.ask(&Request::Stop, &[]), Reply::Done);
    assert_eq!(vmm.end().0, MachineEnd::Stopped);
}

/// CPU time that a process has used, in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn linux_powers_off() {
    let output = Output::new();
    let mut vmm = Vmm::boot(&linux("poweroff -f", 128, &output));
    assert_eq!(vmm.end().0, MachineEnd::PowerOff, "{}", output.text());
}

#[test]
fn linux_resets() {
    let output = Output::new();
    let mut vmm = Vmm::boot(&linux("reboot -f", 128, &output));
    assert_eq!(vmm.end().0, MachineEnd::Reset, "{}", output.text());
}

#[test]
fn linux_panic_is_told_apart_and_its_message_is_not_lost() {
    let output = Output::new();
    let mut vmm = Vmm::boot(&linux("echo c > /proc/sysrq-trigger", 128, &output));
    assert_eq!(vmm.event(), Event::Panicked, "{}", output.text());
    assert_eq!(vmm.end().0, MachineEnd::Panic);
    assert!(output.text().contains("Kernel panic"), "{}", output.text());
}

#[test]
fn first_process_that_ends_is_a_panic() {
    let output = Output::new();
    let mut vmm = Vmm::boot(&linux("exit 3", 128, &output));
    assert_eq!(vmm.end().0, MachineEnd::Panic, "{}", output.text());
    assert!(output.text().contains("Attempted to kill init"), "{}", output.text());
}

#[test]
fn linux_can_end_by_a_triple_fault() {
    let output = Output::new();
    let mut vmm = Vmm::boot(&linux("reboot -f", 128, &output).cmdline("reboot=t"));
    assert_eq!(vmm.end().0, MachineEnd::TripleFault, "{}", output.text());
}
