//! Input that can't be right is explained; the process goes on or ends cleanly.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use vmm_api::{
    DeviceConfig, ErrorKind, ErrorReply, MachineEnd, MachineState, Reply, Request, Window,
};

use super::client::{Boot, Output, Vmm, refusal};
use super::kernels;

fn file(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.into()
}

/// What a kernel is refused for; the process is then asked for a good machine.
fn kernel_refused(kernel: OwnedFd) -> ErrorReply {
    let mut vmm = Vmm::start();
    let error = refusal(vmm.try_boot(&Boot::new(kernel, 64)));
    assert_eq!(vmm.try_boot(&Boot::new(kernels::spin(), 64)), Reply::Done, "after {error}");
    error
}

#[test]
fn kernels_that_are_none_are_refused_and_the_next_one_boots() {
    let error = kernel_refused(file(b"#!/bin/sh\n"));
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("not an ELF file"), "{error}");

    let whole = kernels::elf(&[0xf4; 4096]);
    let error = kernel_refused(file(&whole[..2000]));
    assert!(error.message.contains("truncated"), "{error}");

    let mut other = whole.clone();
    other[18] = 183;
    let error = kernel_refused(file(&other));
    assert!(error.message.contains("not a 64-bit x86-64"), "{error}");

    let mut outside = whole;
    outside[24..32].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    let error = kernel_refused(file(&outside));
    assert!(error.message.contains("entry 0x10000000000"), "{error}");
}

#[test]
fn second_boot_and_requests_out_of_order_are_refused() {
    let mut vmm = Vmm::start();
    assert_eq!(vmm.refused(&Request::Resume, &[]).kind, ErrorKind::State);
    let boot = Boot::new(kernels::spin(), 64);
    assert_eq!(vmm.try_boot(&boot), Reply::Done);
    let error = refusal(vmm.try_boot(&boot));
    assert_eq!(error.kind, ErrorKind::State);
    assert!(error.message.contains("running"), "{error}");
    let Reply::Status(status) = vmm.ask(&Request::Status, &[]) else { panic!("no status") };
    assert_eq!(status.state, MachineState::Running);
}

#[test]
fn windows_are_counted() {
    let mut vmm = Vmm::boot(&Boot::new(kernels::spin(), 64));
    let empty = Window::try_from(7).unwrap();
    assert_eq!(vmm.refused(&Request::Detach(empty), &[]).kind, ErrorKind::Invalid);
    for index in 0..64 {
        let reply = vmm.ask(&Request::Attach(DeviceConfig::Rng), &[]);
        assert_eq!(reply, Reply::Attached(Window::try_from(index).unwrap()));
    }
    let error = vmm.refused(&Request::Attach(DeviceConfig::Rng), &[]);
    assert_eq!(error.kind, ErrorKind::NoWindow);
    assert_eq!(vmm.ask(&Request::Detach(empty), &[]), Reply::Done);
    assert_eq!(vmm.ask(&Request::Attach(DeviceConfig::Rng), &[]), Reply::Attached(empty));
    assert_eq!(vmm.ask(&Request::Stop, &[]), Reply::Done);
    assert_eq!(vmm.end().0, MachineEnd::Stopped);
}

#[test]
fn share_and_socket_can_not_be_attached_later() {
    let mut vmm = Vmm::boot(&Boot::new(kernels::spin(), 64));
    let output = Output::new();
    let share = DeviceConfig::Fs { tag: "late".to_owned(), root: vmm_api::FdSlot(0) };
    let error = vmm.refused(&Request::Attach(share), &[output.writer()]);
    assert!(error.message.contains("at boot only"), "{error}");
}

#[test]
fn process_without_a_control_socket_says_who_starts_it() {
    let path = super::client::installed("CUDDY_VMM", "/opt/cuddy/bin/cuddy-vmm");
    let output = Command::new(&path).stdin(Stdio::null()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains("containerd-shim-cuddy-v2"), "{message}");
    let output = Command::new(&path).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
