//! `cuddy run` against our own daemon, as people use it.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use harness::cri::Cuddyd;
use harness::cuddy::{Cuddy, IMAGE, Terminal, logs_of};
use harness::eventually;

/// A daemon, and commands for it.
fn ready() -> (Cuddyd, Cuddy) {
    let daemon = Cuddyd::new();
    let cuddy = Cuddy::new(&daemon);
    (daemon, cuddy)
}

#[test]
fn first_byte_of_output_arrives_each_time() {
    let (daemon, cuddy) = ready();
    for _ in 0..5 {
        let arguments = ["run", "--rm", IMAGE, "sh", "-c", "printf first; echo error >&2; exit 3"];
        let done = cuddy.done(&arguments);
        assert_eq!(done.status.code(), Some(3), "{done:?}");
        assert_eq!((&*done.stdout, &*done.stderr), (&b"first"[..], &b"error\n"[..]));
    }
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
    let log = daemon.log();
    assert!(!log.contains("closing handshake"), "{log}");
}

#[test]
fn machine_ends_with_a_container_in_the_background_and_its_record_stays() {
    let (daemon, cuddy) = ready();
    cuddy.said(&["run", "-d", "--name", "ends", IMAGE, "sh", "-c", "echo bye; exit 4"]);
    eventually("its machine has ended", || {
        let pods = daemon.cri().pods();
        assert_eq!(pods.len(), 1);
        harness::host::shims().is_empty()
    });
    assert_eq!(cuddy.said(&["logs", "ends"]), "bye\n");
    assert!(cuddy.said(&["ps", "-a"]).contains("ends"));
    assert!(!cuddy.said(&["ps"]).contains("ends"));
    cuddy.said(&["rm", "ends"]);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
    assert!(logs_of("ends").is_empty(), "{:?}", logs_of("ends"));
}

#[test]
fn container_that_can_not_be_created_leaves_nothing() {
    let (daemon, cuddy) = ready();
    let text = cuddy.refused(125, &["run", "--name", "refused", "-u", "ghost", IMAGE, "true"]);
    assert!(text.contains("user \"ghost\": not in /etc/passwd of the image"), "{text}");
    assert!(logs_of("refused").is_empty(), "{:?}", logs_of("refused"));
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
    let text = cuddy.said(&["run", "--rm", "-u", "nobody", IMAGE, "id", "-u"]);
    assert_eq!(text, "65534\n");
}

#[test]
fn terminal_has_its_size_from_the_first_moment_and_follows() {
    let (daemon, cuddy) = ready();
    let script =
        "stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done";
    let arguments = ["run", "--rm", "-it", "--name", "sized", IMAGE, "sh", "-c", script];
    let mut terminal = Terminal::new(101, 33, &cuddy.command(&arguments));
    terminal.until("ready\r\n");
    assert!(terminal.seen.contains("33 101\r\n"), "{:?}", terminal.seen);
    terminal.resize(122, 44);
    terminal.until("44 122\r\n");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(5));

    cuddy.said(&["run", "-d", "--name", "stays", IMAGE, "sleep", "1000"]);
    // Sizes and keys are streams of their own, so a key says nothing of a size.
    let script = "stty size; while [ \"$(stty size)\" = '20 90' ]; do sleep 0.1; done; stty size";
    let arguments = ["exec", "-it", "stays", "sh", "-c", script];
    let mut terminal = Terminal::new(90, 20, &cuddy.command(&arguments));
    terminal.until("20 90\r\n");
    terminal.resize(91, 21);
    terminal.until("21 91\r\n");
    assert!(terminal.child.wait().unwrap().success());
    cuddy.said(&["rm", "-f", "stays"]);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}
