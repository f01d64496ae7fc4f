//! Streams between a client and a container: all bytes, in bounded memory, with their ends.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::io::Read;
use std::process::Stdio;

use harness::ctr::{BUSYBOX, Name, RUNTIME, command, ctr, ctr_with_input};
use harness::host;

const HUNDRED_MB: usize = 100 << 20;

#[test]
fn end_of_input_reaches_the_process_while_its_output_goes_on() {
    let name = Name::new("half-close");
    let script = "cat; echo after";
    let arguments =
        ["run", "--rm", "--runtime", RUNTIME, BUSYBOX, name.as_str(), "sh", "-c", script];
    let done = ctr_with_input(&arguments, b"first\nsecond\n");
    assert_eq!(done.ok(), "first\nsecond\nafter\n");
    host::settled();
}

#[test]
fn hundred_megabytes_arrive_whole_and_the_shim_stays_small() {
    let name = Name::new("flood");
    // The line's 64 bytes divide all buffers: what is lost or out of place shows.
    let script = "yes 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde | \
        head -c 104857600";
    let arguments =
        ["run", "--rm", "--runtime", RUNTIME, BUSYBOX, name.as_str(), "sh", "-c", script];
    let mut child =
        command(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let line = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n";
    let mut buffer = vec![0; 1 << 16];
    let (mut seen, mut largest) = (0, 0);
    while let count @ 1.. = output.read(&mut buffer).unwrap() {
        let right =
            buffer[..count].iter().enumerate().all(|(at, byte)| *byte == line[(seen + at) % 64]);
        assert!(right, "wrong bytes after {seen}");
        if (seen + count) >> 24 > seen >> 24 {
            largest = host::shims().into_iter().map(host::pss_kib).max().unwrap_or(0).max(largest);
        }
        seen += count;
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(seen, HUNDRED_MB);
    println!("shim at most {largest} KiB");
    assert!(largest > 0 && largest <= 6 << 10, "the shim took {largest} KiB");
    host::settled();
}

#[test]
fn slow_reader_slows_the_process_and_loses_nothing() {
    let name = Name::new("slow");
    let script = "head -c 3000000 /dev/zero";
    let arguments =
        ["run", "--rm", "--runtime", RUNTIME, BUSYBOX, name.as_str(), "sh", "-c", script];
    let mut child =
        command(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    // The process can't end before this reads: its output does not fit into the pipes.
    let mut first = [0; 1];
    output.read_exact(&mut first).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(name.state().as_deref(), Some("RUNNING"));
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 3_000_000 - 1);
    assert!(child.wait().unwrap().success());
    host::settled();
}

#[test]
fn output_goes_to_a_file_for_a_container_without_client() {
    let name = Name::new("file");
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("deep/log");
    let uri = format!("file://{}", log.display());
    let fixed = ["run", "--detach", "--log-uri", &uri, "--runtime", RUNTIME, BUSYBOX];
    let script = "echo out; echo err >&2";
    ctr(&[&fixed[..], &[name.as_str(), "sh", "-c", script]].concat()).ok();
    harness::eventually("the container is stopped", || name.state().as_deref() == Some("STOPPED"));
    let mut lines: Vec<_> =
        std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["err", "out"]);
    name.remove();
    host::settled();
}

#[test]
fn output_goes_to_a_log_as_kubelet_reads_it() {
    let name = Name::new("log");
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("pod/web/0.log");
    let uri = format!("cri-log://{}?max=256", log.display());
    let fixed = ["run", "--detach", "--log-uri", &uri, "--runtime", RUNTIME, BUSYBOX];
    let script = "printf %300s x; echo; echo err >&2; printf end";
    ctr(&[&fixed[..], &[name.as_str(), "sh", "-c", script]].concat()).ok();
    harness::eventually("the container is stopped", || name.state().as_deref() == Some("STOPPED"));
    let text = std::fs::read_to_string(&log).unwrap();
    let records = text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned());
    let (errors, output): (Vec<_>, Vec<_>) =
        records.partition(|record| record.starts_with("stderr"));
    assert_eq!(errors, ["stderr F err"]);
    let long = format!("{:>300}", "x");
    let expected = [("P", &long[..256]), ("F", &long[256..]), ("P", "end")];
    assert_eq!(output, expected.map(|(tag, text)| format!("stdout {tag} {text}")));
    name.remove();
    host::settled();
}

#[test]
fn client_attaches_to_a_running_container_and_gets_its_exit_code() {
    let name = Name::new("attach");
    name.detach(&["sh", "-c", "while :; do echo tick; sleep 1; done"]);
    let mut attached = command(&["task", "attach", name.as_str()]);
    let mut attached = attached.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = attached.stdout.take().unwrap();
    let mut first = [0; 5];
    output.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"tick\n");
    ctr(&["task", "kill", "--signal", "SIGKILL", name.as_str()]).ok();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(rest.lines().all(|line| line == "tick"), "{rest}");
    assert_eq!(attached.wait().unwrap().code(), Some(137));
    // Attach takes the task with it; what is left is the container.
    ctr(&["task", "rm", "--force", name.as_str()]);
    ctr(&["container", "rm", name.as_str()]).ok();
    host::settled();
}
