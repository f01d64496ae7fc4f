//! `ctr run`, from the command line to the container's output, exit code and end.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use harness::ctr::{BUSYBOX, Events, Name, RUNTIME, ctr, ctr_with_terminal};
use harness::host;

#[test]
fn output_error_output_and_exit_code_arrive() {
    let name = Name::new("run");
    let done = name.run(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(done.code, Some(7), "{done:?}");
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
    host::settled();
}

#[test]
fn container_sees_a_kernel_and_a_first_process_of_its_own() {
    let name = Name::new("kernel");
    let done = name.run(&["sh", "-c", "uname -r; cat /proc/1/comm; hostname"]).ok();
    let lines: Vec<_> = done.lines().collect();
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_ne!(lines[0], host.trim());
    // The agent is the guest's first process, but not the container's.
    assert_eq!(lines[1], "sh");
    host::settled();
}

#[test]
fn terminal_has_a_device_and_carries_output() {
    let name = Name::new("tty");
    let fixed = ["run", "--rm", "-t", "--runtime", RUNTIME, BUSYBOX, name.as_str()];
    let script = ["sh", "-c", "tty; test -t 2 && echo both; exit 3"];
    let done = ctr_with_terminal(&[&fixed[..], &script].concat());
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stdout.contains("/dev/") && done.stdout.contains("both\r"), "{done:?}");
    host::settled();
}

#[test]
fn machine_has_as_many_cpus_as_the_quota_asks_for() {
    let name = Name::new("cpus");
    assert_eq!(name.run(&["nproc"]).ok(), "1\n");
    // More than the host's own would only wait for each other.
    let most = std::thread::available_parallelism().unwrap().get();
    for (quota, cpus) in [("1.5", 2), ("2", 2), ("2.5", 3)] {
        let cpus = format!("{}\n", most.min(cpus));
        let name = Name::new("cpus");
        let fixed = ["run", "--rm", "--cpus", quota, "--runtime", RUNTIME, BUSYBOX, name.as_str()];
        // What the kernel schedules on, and what the container is told.
        let script = "nproc; grep -c ^processor /proc/cpuinfo";
        let done = ctr(&[&fixed[..], &["sh", "-c", script]].concat());
        assert_eq!(done.ok(), cpus.repeat(2));
    }
    host::settled();
}

#[test]
fn background_container_lives_its_life_under_every_verb() {
    let events = Events::listen();
    let name = Name::new("life");
    name.detach(&["sleep", "1000"]);
    assert_eq!(name.state().as_deref(), Some("RUNNING"));
    assert!(ctr(&["task", "ps", name.as_str()]).ok().lines().count() >= 2);
    ctr(&["task", "pause", name.as_str()]).ok();
    assert_eq!(name.state().as_deref(), Some("PAUSED"));
    ctr(&["task", "resume", name.as_str()]).ok();
    assert_eq!(name.state().as_deref(), Some("RUNNING"));
    let metrics = ctr(&["task", "metrics", name.as_str()]).ok();
    assert!(metrics.contains("memory.usage"), "{metrics}");
    assert!(!name.exec(&["true"]).stderr.contains("rpc error"));
    ctr(&["task", "kill", "--signal", "SIGKILL", name.as_str()]).ok();
    // The exec's end is told as well, and before.
    let own = format!("\"id\":\"{}\"", name.as_str());
    let mut exits = std::iter::repeat_with(|| events.until(&name, "/tasks/exit").pop().unwrap().1);
    let exited = exits.find(|exit| exit.contains(&own)).unwrap();
    assert!(exited.contains("137"), "{exited}");
    assert_eq!(name.state().as_deref(), Some("STOPPED"));
    name.remove_killed();
}

#[test]
fn events_come_in_the_order_in_which_things_happen() {
    let events = Events::listen();
    let name = Name::new("order");
    name.detach(&["sleep", "1000"]);
    assert_eq!(name.exec(&["sh", "-c", "exit 4"]).code, Some(4));
    ctr(&["task", "kill", "--signal", "SIGKILL", name.as_str()]).ok();
    let mut seen = events.until(&name, "/tasks/exit");
    if !seen.last().unwrap().1.contains("137") {
        seen.extend(events.until(&name, "/tasks/exit"));
    }
    name.remove();
    seen.extend(events.until(&name, "/tasks/delete"));
    let topics: Vec<_> = seen.iter().map(|(topic, _)| topic.as_str()).collect();
    let expected = [
        "/tasks/create",
        "/tasks/start",
        "/tasks/exec-added",
        "/tasks/exec-started",
        "/tasks/exit",
        "/tasks/exit",
        "/tasks/delete",
    ];
    assert_eq!(topics, expected, "{seen:#?}");
    host::settled();
}

#[test]
fn memory_of_shim_and_vmm_is_within_its_budget() {
    let name = Name::new("pss");
    name.detach(&["sleep", "1000"]);
    let shim = host::pss_kib(host::shims()[0]);
    println!("shim: {shim} KiB");
    assert!(shim <= 6 << 10, "the shim takes {shim} KiB");
    name.remove();
    host::settled();
}
