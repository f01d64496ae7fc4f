//! Logs, exec, attach and port-forward.

use std::time::{Duration, Instant};

use harness::cri::log::{Stream, parse, text};
use harness::cri::node::shared_pod;
use harness::cri::{Container, ContainerSpec, Cri};
use harness::eventually;
use tonic::Code;

#[test]
fn logs_are_whole_and_can_be_rotated() {
    shared_pod(|node| {
        let gate = tempfile::tempdir().unwrap();
        let script = "head -c 50000 /dev/zero | tr '\\0' x; echo; seq 1 2000; printf unfinished; \
                      until [ -e /gate/open ]; do sleep 0.1; done; echo; echo last >&2";
        let spec = ContainerSpec::shell("main", script).mount(gate.path(), "/gate");
        let container = node.start(spec);
        let lines = || text(&container.log, Stream::Stdout);
        eventually("all lines are there", || lines().contains("\n2000\n"));
        let rotated = container.log.with_extension("old");
        std::fs::rename(&container.log, &rotated).unwrap();
        node.cri.reopen_log(&container);
        assert!(container.log.exists());
        std::fs::write(gate.path().join("open"), "").unwrap();
        assert_eq!(node.cri.exited(&container).exit_code, 0);
        eventually("the last line is there", || !text(&container.log, Stream::Stderr).is_empty());
        assert_eq!(text(&container.log, Stream::Stderr), "last\n");
        // A line may have begun before the rotation and ended after.
        let whole = [&rotated, &container.log].map(|path| std::fs::read_to_string(path).unwrap());
        let lines = parse(&whole.concat()).into_iter().filter(|one| one.stream == Stream::Stdout);
        let all: String = lines.map(|one| one.text + "\n").collect();
        let (long, rest) = all.split_once('\n').unwrap();
        assert!(long.len() == 50_000 && long.bytes().all(|byte| byte == b'x'));
        let numbers: String = (1..=2000).map(|n| format!("{n}\n")).collect();
        assert_eq!(rest, numbers + "unfinished\n");
    });
}

#[test]
fn exec_sync_tells_output_and_code_and_keeps_its_time() {
    shared_pod(|node| {
        let container = node.idle();
        let cri = &node.cri;
        let done = cri.exec_sync(&container, &["sh", "-c", "echo out; echo err >&2; exit 9"]);
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (9, "out\n", "err\n"));
        let refused = cri.try_exec_sync(&container, &["/no/such/program"], 10).unwrap_err();
        assert!(refused.message().contains("no such file"), "{refused:?}");
        let begin = Instant::now();
        let late = cri.try_exec_sync(&container, &["sleep", "4444"], 2).unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
        eventually("the late process is gone", || !cri.sh(&container, "ps").contains("sleep 4444"));
    });
}

#[test]
fn exec_streams_both_ways() {
    shared_pod(|node| {
        let container = node.idle();
        let mut apart = node.cri.exec(
            &container,
            &["sh", "-c", "read line; echo \"got $line\"; echo err >&2; exit 3"],
            false,
            true,
        );
        apart.write(b"something\n");
        assert_eq!(apart.finish(), 3);
        assert_eq!(
            (apart.output().as_str(), &apart.stderr[..]),
            ("got something\n", &b"err\n"[..])
        );

        let mut terminal = node.cri.exec(&container, &["sh"], true, true);
        terminal.resize(132, 43);
        terminal.write(b"stty size; echo and''more\n");
        terminal.until("andmore");
        assert!(terminal.output().contains("43 132"), "{}", terminal.output());
        terminal.write(b"exit 5\n");
        assert_eq!(terminal.finish(), 5);
    });
}

/// `kubectl cp` is `tar` on both sides of an exec.
#[test]
fn files_are_copied_in_and_out_by_tar_over_exec() {
    let host = tempfile::tempdir().unwrap();
    let (there, back) = (host.path().join("there"), host.path().join("back"));
    let make = "mkdir -p there/sub back; head -c 3000000 /dev/urandom >there/large; \
                echo text >there/sub/file; chmod 640 there/sub/file; ln -s sub/file there/link; \
                : >there/empty; tar -cf there.tar there; wc -c <there.tar";
    let length = sh(host.path(), make);
    shared_pod(|node| {
        let container = node.idle();
        // kubectl closes the stream at the archive's end. The tests' WebSocket can't, so the length
        // is told.
        let unpack = format!("mkdir /copy && head -c {} | tar -xmf - -C /copy", length.trim());
        let mut session = node.cri.exec(&container, &["sh", "-c", &unpack], false, true);
        session.write(&std::fs::read(host.path().join("there.tar")).unwrap());
        assert_eq!(session.finish(), 0, "{session:?}");
        let pack = ["tar", "cf", "-", "-C", "/copy", "there"];
        let mut session = node.cri.exec(&container, &pack, false, false);
        assert_eq!(session.finish(), 0, "{:?}", session.stderr);
        std::fs::write(host.path().join("back.tar"), &session.stdout).unwrap();
        sh(&back, "rm -rf there; tar -xf ../back.tar");
        let (sent, came) = (listing(&there), listing(&back.join("there")));
        assert_eq!(came, sent);
    });
}

/// Runs a script on the host and returns its output.
fn sh(directory: &std::path::Path, script: &str) -> String {
    let mut command = std::process::Command::new("sh");
    let done = command.args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// Names, kinds, modes, sizes, targets and contents of a directory.
fn listing(directory: &std::path::Path) -> String {
    sh(directory, "find . -printf '%p %y %m %l\\n' | sort; find . -type f -exec md5sum {} + | sort")
}

#[test]
fn attach_reaches_the_containers_own_process() {
    shared_pod(|node| {
        let script = "while read line; do echo \"got $line\"; [ \"$line\" != end ] || exit 6; done";
        let container = node.start(ContainerSpec::shell("main", script).stdin());
        let mut session = node.cri.attach(&container, false, true);
        session.write(b"one\n");
        session.until("got one\n");
        session.write(b"end\n");
        session.until("got end\n");
        assert_eq!(node.cri.exited(&container).exit_code, 6);
        assert_eq!(text(&container.log, Stream::Stdout), "got one\ngot end\n");

        let script =
            "stty -echo; echo on; while read line; do echo \"$(stty size) at $line\"; done";
        let spec = ContainerSpec::shell("terminal", script).stdin().tty();
        let container = node.start(spec);
        eventually("it runs", || text(&container.log, Stream::Stdout).contains("on\n"));
        let mut session = node.cri.attach(&container, true, true);
        session.resize(111, 37);
        let mut asked = 0;
        eventually("the size arrives", || {
            asked += 1;
            session.write(format!("{asked}\n").as_bytes());
            session.until(&format!("at {asked}\r"));
            session.output().contains("37 111")
        });
        session.hang_up();
    });
}

/// To detach is the client's doing: Ctrl-P Ctrl-Q and what else has a meaning to terminals are
/// bytes as any other. Whoever leaves takes nothing along.
#[test]
fn a_terminal_passes_every_byte_and_outlives_who_attached() {
    shared_pod(|node| {
        let script = "stty raw -echo; echo on; while :; do \
                      dd bs=1 count=4 2>/dev/null | od -A n -t x1; done";
        let mut spec = ContainerSpec::shell("terminal", script).stdin().tty();
        spec.config.stdin_once = false;
        let container = node.start(spec);
        eventually("it runs", || text(&container.log, Stream::Stdout).contains("on"));
        for (bytes, seen) in
            [(b"\x10\x11\x03\x1a", "10 11 03 1a"), (b"\x04\x1c\x13\xff", "04 1c 13 ff")]
        {
            let mut session = node.cri.attach(&container, true, true);
            session.write(bytes);
            session.until(seen);
            session.hang_up();
        }
        assert_eq!(node.cri.sh(&container, "cat /proc/1/comm"), "sh");
    });
}

#[test]
fn port_forward_reaches_the_pods_loopback() {
    shared_pod(|node| {
        let cri = &node.cri;
        let script = "while :; do nc -l -p 8004 -e cat; done";
        node.start(ContainerSpec::shell("server", script));
        let probe = node.start(ContainerSpec::idle("probe"));
        eventually("the server listens", || {
            cri.sh(&probe, "cat /proc/net/tcp /proc/net/tcp6").contains(":1F44 ")
        });
        let mut forward = cri.port_forward(&node.pod, 8004);
        forward.write(b"through\n");
        forward.until("through\n");
        let refused = cri.port_forward(&node.pod, 9999).finish().unwrap_err();
        assert!(refused.contains("9999"), "{refused}");
    });
}

fn exec_one(cri: &Cri, container: &Container, worker: i32, n: i32) {
    let words = format!("echo {worker}-{n}; echo err >&2; exit {n}");
    let done = cri.exec_sync(container, &["sh", "-c", &words]);
    assert_eq!((done.code, done.stderr.as_str()), (n, "err\n"));
    assert_eq!(done.stdout, format!("{worker}-{n}\n"));
}

#[test]
fn processes_join_containers_by_the_hundred() {
    shared_pod(|node| {
        let cri = &node.cri;
        let container = &node.idle();
        std::thread::scope(|scope| {
            for worker in 0..8 {
                scope.spawn(move || (0..16).for_each(|n| exec_one(cri, container, worker, n)));
            }
        });
        let missing = cri.try_exec_sync(container, &["/does/not/exist"], 10).unwrap_err();
        let text = missing.message();
        assert!(text.contains("/does/not/exist") && text.contains("no such file"), "{text}");
        // A child in the background keeps the output open; the exec ends all the same.
        let done = cri.exec_sync(container, &["sh", "-c", "sleep 900 & echo parent"]);
        assert_eq!(done.ok(), "parent\n");
        let late = cri.try_exec_sync(container, &["sleep", "100"], 1).unwrap_err();
        assert_eq!(late.code(), tonic::Code::DeadlineExceeded, "{late:?}");
        assert_eq!(cri.sh(container, "ps | grep -c 'sleep [1]00$'; true"), "0");
    });
}
