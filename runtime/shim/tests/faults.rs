//! The shim where the host is not as it should be. Another start hangs, state is damaged, no
//! descriptor is left, or the shim is told to end.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

#[path = "host/daemon.rs"]
mod host;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use containerd_shim_protos::api::ConnectRequest;
use host::{Host, SOON};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use ttrpc::context::Context;

/// Waits for the end of a call that must not take long; what it said to whoever called.
fn ended(mut call: Child) -> (bool, String) {
    let end = Instant::now() + SOON;
    while call.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "it hangs");
        std::thread::yield_now();
    }
    let output = call.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

async fn process_of(address: &str) -> u32 {
    let client = Host::connect(address).await;
    let request = ConnectRequest { id: "web".into(), ..ConnectRequest::default() };
    client.connect(Context::default(), &request).await.unwrap().shim_pid
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().unwrap()).unwrap()
}

#[test]
fn start_that_hangs_stops_no_other_pod() {
    let host = Host::new();
    std::fs::create_dir_all(host.path("run/test/web")).unwrap();
    // Whoever reads this waits until somebody writes.
    let owner = host.path("run/test/web/owner");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &owner, mode).unwrap();
    let hanging = host.begin_start("web");
    // It reads: opening for writing would wait for that, too.
    let mut writer = std::fs::OpenOptions::new().write(true).open(&owner).unwrap();
    let (succeeded, text) = ended(host.begin_start("db"));
    assert!(succeeded, "{text}");
    writer.write_all(b"what").unwrap();
    drop(writer);
    let (succeeded, text) = ended(hanging);
    assert!(!succeeded && text.contains("run/test/web/owner"), "{text}");
    assert!(text.contains("remove") && owner.exists(), "{text}");
    assert!(ended(host.begin("db", &["delete"], b"")).0);
}

#[tokio::test]
async fn damaged_journal_is_told_with_the_way_out_and_kept() {
    let host = Host::new();
    let address = host.start();
    let shim = process_of(&address).await;
    let journal = host.path("run/test/web/journal");
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, format!("{text}\u{0}\u{0}\n")).unwrap();
    let (succeeded, text) = ended(host.begin("web", &["delete"], b""));
    assert!(!succeeded && text.contains("run/test/web/journal is damaged"), "{text}");
    Host::gone(shim);
    // What can't be read may name a process that still writes to a volume.
    let (succeeded, text) = ended(host.begin_start("web"));
    assert!(!succeeded && text.contains("run/test/web/journal is damaged"), "{text}");
    assert!(text.contains("vmm.pid") && text.contains("remove"), "{text}");
    std::fs::remove_dir_all(host.path("run/test/web")).unwrap();
    assert_eq!(host.start(), address);
    assert!(host.shim(&["delete"], b"").status.success());
    host.nothing_left();
}

#[tokio::test]
async fn shim_that_is_told_to_end_leaves_nothing() {
    for signal in [Signal::TERM, Signal::INT] {
        let host = Host::new();
        let address = host.start();
        let shim = process_of(&address).await;
        kill_process(pid(shim), signal).unwrap();
        Host::gone(shim);
        host.nothing_left();
    }
}

/// Clock ticks that a process has run.
fn ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn want_of_descriptors_is_waited_for_and_not_run_after() {
    let host = Host::new();
    let address = host.start();
    let shim = process_of(&address).await;
    let none = Rlimit { current: Some(3), ..getrlimit(Resource::Nofile) };
    let before = prlimit(Some(pid(shim)), Resource::Nofile, none).unwrap();
    let mut caller = UnixStream::connect(Host::socket(&address)).unwrap();
    // Nobody takes the connection, so nobody closes it because this is no request.
    caller.write_all(&[0xff; 64]).unwrap();
    let second = Duration::from_secs(1);
    caller.set_read_timeout(Some(second)).unwrap();
    let begin = ticks(shim);
    let silence = caller.read(&mut [0; 64]).unwrap_err();
    assert_eq!(silence.kind(), ErrorKind::WouldBlock);
    let ran = ticks(shim) - begin;
    assert!(ran < 20, "{ran} of 100 ticks in a second");
    prlimit(Some(pid(shim)), Resource::Nofile, before).unwrap();
    assert_eq!(process_of(&address).await, shim);
    assert!(host.shim(&["delete"], b"").status.success());
}
