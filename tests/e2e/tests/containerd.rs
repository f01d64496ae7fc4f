//! Real daemons of every version of containerd that the lab has. Each starts the shim in its own
//! way, and finds it again after a crash.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::path::Path;

use harness::containerd::{Containerd, versions};
use harness::ctr::{BUSYBOX, RUNTIME};
use harness::{eventually, host};

/// A container in the background.
fn detach(daemon: &Containerd, name: &str, options: &[&str], script: &str) {
    let fixed = ["run", "--detach", "--runtime", RUNTIME];
    let container = [BUSYBOX, name, "sh", "-c", script];
    daemon.ctr(&[&fixed[..], options, &container].concat()).ok();
}

/// Removes a stopped task and its container; the task must have ended with this exit code.
#[track_caller]
fn remove(daemon: &Containerd, name: &str, code: u32) {
    let removed = daemon.ctr(&["task", "rm", name]);
    let expected = format!("exit code {code}");
    assert!(removed.stderr.contains(&expected), "{}: {removed:?}", daemon.version());
    daemon.ctr(&["container", "rm", name]).ok();
}

#[track_caller]
fn nothing_left(daemon: &Containerd) {
    host::settled();
    let left = daemon.remains();
    assert!(left.is_empty(), "containerd {} has {left:?}", daemon.version());
}

#[test]
fn containers_live_their_life_under_every_version() {
    for programs in versions() {
        let daemon = Containerd::new(&programs);
        println!("containerd {}", daemon.version());
        information(&daemon);
        foreground(&daemon);
        background(&daemon);
        nothing_left(&daemon);
    }
}

/// The daemon of 2.0 and later asks the shim about itself.
fn information(daemon: &Containerd) {
    if daemon.release() < (2, 0) {
        return;
    }
    let info = daemon.ctr(&["plugins", "inspect-runtime", "--runtime", RUNTIME]).ok();
    assert!(info.contains(RUNTIME) && info.contains(env!("CARGO_PKG_VERSION")), "{info}");
    let log = daemon.log();
    let complaint = log.lines().find(|line| line.contains(RUNTIME) && line.contains("level=error"));
    assert_eq!(complaint, None);
}

fn foreground(daemon: &Containerd) {
    let fixed = ["run", "--rm", "--runtime", RUNTIME, BUSYBOX, "foreground", "sh", "-c"];
    let done = daemon.ctr(&[&fixed[..], &["echo out; echo err >&2; exit 7"]].concat());
    assert_eq!(done.code, Some(7), "{}: {done:?}", daemon.version());
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
}

fn background(daemon: &Containerd) {
    detach(daemon, "background", &[], "sleep 1000");
    assert_eq!(daemon.state("background").as_deref(), Some("RUNNING"));
    let fixed = ["task", "exec", "--exec-id", "one", "background", "sh", "-c"];
    let done = daemon.ctr(&[&fixed[..], &["echo out; exit 5"]].concat());
    assert_eq!((done.code, done.stdout.as_str()), (Some(5), "out\n"), "{done:?}");
    daemon.ctr(&["task", "pause", "background"]).ok();
    assert_eq!(daemon.state("background").as_deref(), Some("PAUSED"));
    daemon.ctr(&["task", "resume", "background"]).ok();
    let metrics = daemon.ctr(&["task", "metrics", "background"]).ok();
    assert!(metrics.contains("memory.usage"), "{metrics}");
    daemon.ctr(&["task", "kill", "--signal", "SIGKILL", "background"]).ok();
    daemon.reaches("background", "STOPPED");
    remove(daemon, "background", 137);
}

/// Waits for a file, then ends: the test decides when.
fn waiting(code: u32) -> String {
    format!("echo before; until [ -e /gate/open ]; do sleep 0.1; done; echo after; exit {code}")
}

/// A container that runs [`waiting`], whose gate is the directory `gate-NAME`.
fn detach_waiting(daemon: &Containerd, name: &str, code: u32) {
    let gate = daemon.path(&format!("gate-{name}"));
    std::fs::create_dir(&gate).unwrap();
    let mount = format!("type=bind,src={},dst=/gate,options=rbind:rw", gate.display());
    let log = format!("file://{}", log(daemon, name).display());
    detach(daemon, name, &["--mount", &mount, "--log-uri", &log], &waiting(code));
}

fn log(daemon: &Containerd, name: &str) -> std::path::PathBuf {
    daemon.path(&format!("log-{name}"))
}

fn open(daemon: &Containerd, name: &str) {
    std::fs::write(daemon.path(&format!("gate-{name}")).join("open"), "").unwrap();
}

fn logged(path: &Path, expected: &str) {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    eventually(&format!("{expected:?} is logged"), || read() == expected);
}

#[test]
fn containers_outlive_a_crash_of_every_version() {
    for programs in versions() {
        let mut daemon = Containerd::new(&programs);
        println!("containerd {}", daemon.version());
        detach_waiting(&daemon, "stays", 9);
        detach_waiting(&daemon, "ends", 8);
        for name in ["stays", "ends"] {
            logged(&log(&daemon, name), "before\n");
        }
        let shims = host::shims();
        assert_eq!(shims.len(), 2);
        daemon.kill();
        open(&daemon, "ends");
        logged(&log(&daemon, "ends"), "before\nafter\n");
        daemon.start();
        assert_eq!(host::shims(), shims, "a shim ended with containerd {}", daemon.version());
        assert_eq!(daemon.state("stays").as_deref(), Some("RUNNING"), "{}", daemon.version());
        daemon.reaches("ends", "STOPPED");
        remove(&daemon, "ends", 8);
        let done = daemon.ctr(&["task", "exec", "--exec-id", "one", "stays", "echo", "there"]);
        assert_eq!(done.ok(), "there\n");
        open(&daemon, "stays");
        daemon.reaches("stays", "STOPPED");
        logged(&log(&daemon, "stays"), "before\nafter\n");
        remove(&daemon, "stays", 9);
        nothing_left(&daemon);
    }
}
