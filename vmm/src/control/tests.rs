use std::os::fd::{AsFd, OwnedFd};

use vmm_api::{FdSlot, MachineConfig, RawMachineConfig, Start};

use super::*;

/// A control thread and its client's end.
fn served() -> (Channel, std::thread::JoinHandle<MachineEnd>) {
    let (client, server) = Channel::pair().unwrap();
    let control = Control::new(server, Instant::now()).unwrap();
    (client, std::thread::spawn(move || control.run()))
}

fn ask(client: &Channel, request: &Request, fds: &[OwnedFd]) -> Reply {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    client.send(request, &fds).unwrap();
    match client.recv::<FromVmm>().unwrap().0 {
        FromVmm::Reply(reply) => reply,
        FromVmm::Event(event) => panic!("event instead of a reply: {event:?}"),
    }
}

fn failure(reply: Reply) -> ErrorReply {
    match reply {
        Reply::Failed(error) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn boot(memory_mib: u64, kernel: FdSlot, memory: FdSlot) -> Request {
    let raw = RawMachineConfig {
        vcpus: 1,
        memory_mib,
        extra_cmdline: String::new(),
        early_serial: false,
    };
    let machine = MachineConfig::try_from(raw).unwrap();
    let (start, devices) = (Start::Kernel(kernel), vec![]);
    let (serial, to_be_saved) = (None, false);
    Request::Boot(BootConfig { machine, start, memory, serial, devices, to_be_saved })
}

fn file(size: u64) -> OwnedFd {
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    file.into()
}

#[test]
fn requests_that_need_a_machine_are_refused_before_boot() {
    let (client, control) = served();
    let error = failure(ask(&client, &Request::Pause, &[]));
    assert_eq!(error.kind, ErrorKind::State);
    assert!(error.message.contains("a new machine"), "{error}");
    drop(client);
    assert_eq!(control.join().unwrap(), MachineEnd::Stopped);
}

#[test]
fn stop_is_answered_before_the_end_is_reported() {
    let (client, control) = served();
    assert_eq!(ask(&client, &Request::Stop, &[]), Reply::Done);
    let ended = client.recv::<FromVmm>().unwrap().0;
    assert_eq!(ended, FromVmm::Event(Event::Ended(MachineEnd::Stopped)));
    assert_eq!(control.join().unwrap(), MachineEnd::Stopped);
}

#[test]
fn bad_boot_requests_are_explained_and_can_be_mended() {
    let (client, _control) = served();
    let error = failure(ask(&client, &boot(64, FdSlot(0), FdSlot(1)), &[file(0)]));
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("slot 1 named, but only 1"), "{error}");

    let error = failure(ask(&client, &boot(64, FdSlot(0), FdSlot(0)), &[file(0)]));
    assert!(error.message.contains("slot 0 named twice"), "{error}");

    let fds = [file(0), file(32 << 20)];
    let error = failure(ask(&client, &boot(64, FdSlot(0), FdSlot(1)), &fds));
    assert!(error.message.contains("33554432 bytes"), "{error}");

    let fds = [file(0), file(64 << 20)];
    let error = failure(ask(&client, &boot(64, FdSlot(0), FdSlot(1)), &fds));
    assert!(error.message.contains("not an ELF file"), "{error}");

    let status = ask(&client, &Request::Status, &[]);
    let new = MachineStatus { state: MachineState::New, windows: vec![] };
    assert_eq!(status, Reply::Status(new));
}

#[test]
fn machine_larger_than_its_host_is_refused_without_touching_memory() {
    let (client, _control) = served();
    let fds = [file(0), file(0)];
    let error = failure(ask(&client, &boot(262_144, FdSlot(0), FdSlot(1)), &fds));
    assert_eq!(error.kind, ErrorKind::Host);
    assert!(error.message.contains("more than the host's"), "{error}");
}

#[test]
fn message_that_is_no_request_is_answered() {
    let (client, _control) = served();
    client.send(&serde_json::json!({"reboot": true}), &[]).unwrap();
    let FromVmm::Reply(reply) = client.recv::<FromVmm>().unwrap().0 else { panic!("event") };
    assert_eq!(failure(reply).kind, ErrorKind::Invalid);
}
