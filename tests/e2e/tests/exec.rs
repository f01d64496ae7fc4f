//! `ctr task exec` into a running container.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use harness::ctr::{Name, ctr, ctr_with_input, ctr_with_terminal};
use harness::host;

/// One machine for all cases: each boot costs seconds in the lab.
#[test]
fn processes_join_a_running_container() {
    let name = Name::new("exec");
    name.detach(&["sleep", "1000"]);
    exit_codes_and_output(&name);
    input_and_its_end(&name);
    terminal_and_its_size(&name);
    missing_binary(&name);
    background_child(&name);
    many(&name);
    ctr(&["task", "kill", "--signal", "SIGKILL", name.as_str()]).ok();
    harness::eventually("the container is stopped", || name.state().as_deref() == Some("STOPPED"));
    let late = name.exec(&["true"]);
    assert!(late.code != Some(0) && late.stderr.contains("stopped"), "{late:?}");
    name.remove();
    host::settled();
}

fn exit_codes_and_output(name: &Name) {
    let done = name.exec(&["sh", "-c", "echo out; echo err >&2; exit 5"]);
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr.as_str()),
        (Some(5), "out\n", "err\n")
    );
    assert_eq!(name.exec(&["sh", "-c", "kill -9 $$"]).code, Some(137));
    assert_eq!(name.exec(&["sh", "-c", "kill -TERM $$"]).code, Some(143));
}

fn input_and_its_end(name: &Name) {
    let arguments = ["task", "exec", "--exec-id", "input", name.as_str(), "wc", "-c"];
    let done = ctr_with_input(&arguments, &[b'x'; 70_000]);
    assert_eq!(done.ok().trim(), "70000");
}

fn terminal_and_its_size(name: &Name) {
    let script = "stty size; tty";
    let arguments = ["task", "exec", "-t", "--exec-id", "tty", name.as_str(), "sh", "-c", script];
    let done = ctr_with_terminal(&arguments);
    assert!(done.code == Some(0) && done.stdout.contains("/dev/"), "{done:?}");
}

fn missing_binary(name: &Name) {
    let done = name.exec(&["/does/not/exist"]);
    assert!(done.code.is_some_and(|code| code != 0), "{done:?}");
    assert!(done.stderr.contains("/does/not/exist"), "{done:?}");
    assert!(done.seconds < 20.0, "{done:?}");
}

/// The child keeps the output open; the exec ends all the same.
fn background_child(name: &Name) {
    let done = name.exec(&["sh", "-c", "sleep 900 & echo parent"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "parent\n"));
    assert!(done.seconds < 30.0, "{done:?}");
}

fn many(name: &Name) {
    for n in 0..10 {
        let done = name.exec(&["echo", &n.to_string()]);
        assert_eq!(done.stdout, format!("{n}\n"), "{done:?}");
    }
}
