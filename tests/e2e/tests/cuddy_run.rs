//! `cuddy run` against our own daemon, as people use it.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use harness::cri::Cuddyd;
use harness::eventually;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// The small image, by the name that the lab's registry has for it.
const IMAGE: &str = "cuddy.test/busybox:latest";

/// Where logs of `cuddy run` are.
const LOGS: &str = "/var/log/cuddy/containers";

/// A daemon that has the small image, so that no command tells of its pull.
fn ready() -> Cuddyd {
    let daemon = Cuddyd::new();
    daemon.pull("busybox");
    daemon
}

fn cuddy(daemon: &Cuddyd, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=5", "120", "cuddy", "--address"]);
    command.arg(daemon.path("cri.sock")).args(arguments);
    command
}

fn done(daemon: &Cuddyd, arguments: &[&str]) -> Output {
    cuddy(daemon, arguments).stdin(Stdio::null()).output().unwrap()
}

/// What a command that succeeds prints.
fn said(daemon: &Cuddyd, arguments: &[&str]) -> String {
    let done = done(daemon, arguments);
    assert!(done.status.success(), "{arguments:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

fn logs_of(name: &str) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(LOGS) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let of = |path: &std::path::PathBuf| {
        path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}-"))
    };
    paths.filter(of).collect()
}

#[test]
fn first_byte_of_output_arrives_each_time() {
    let daemon = ready();
    for run in 1..=5 {
        // The lab ends what says nothing for minutes.
        let _gone = writeln!(std::io::stderr(), "run {run}");
        let arguments = ["run", "--rm", IMAGE, "sh", "-c", "printf first; echo error >&2; exit 3"];
        let done = done(&daemon, &arguments);
        assert_eq!(done.status.code(), Some(3), "{done:?}");
        assert_eq!((&*done.stdout, &*done.stderr), (&b"first"[..], &b"error\n"[..]));
    }
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
    let log = daemon.log();
    assert!(!log.contains("closing handshake"), "{log}");
}

#[test]
fn machine_ends_with_a_container_in_the_background_and_its_record_stays() {
    let daemon = ready();
    said(&daemon, &["run", "-d", "--name", "ends", IMAGE, "sh", "-c", "echo bye; exit 4"]);
    eventually("its machine has ended", || {
        let pods = daemon.cri().pods();
        assert_eq!(pods.len(), 1);
        harness::host::shims().is_empty()
    });
    assert_eq!(said(&daemon, &["logs", "ends"]), "bye\n");
    assert!(said(&daemon, &["ps", "-a"]).contains("ends"));
    assert!(!said(&daemon, &["ps"]).contains("ends"));
    said(&daemon, &["rm", "ends"]);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
    assert!(logs_of("ends").is_empty(), "{:?}", logs_of("ends"));
}

#[test]
fn container_that_can_not_be_created_leaves_nothing() {
    let daemon = ready();
    let refused = done(&daemon, &["run", "--name", "refused", "-u", "ghost", IMAGE, "true"]);
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("user \"ghost\": not in /etc/passwd of the image"), "{text}");
    assert!(logs_of("refused").is_empty(), "{:?}", logs_of("refused"));
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
    let text = said(&daemon, &["run", "--rm", "-u", "nobody", IMAGE, "id", "-u"]);
    assert_eq!(text, "65534\n");
}

/// A terminal, and a command that has it.
struct Terminal {
    controller: File,
    child: Child,
    seen: String,
}

impl Terminal {
    fn new(columns: u16, rows: u16, command: &Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = rustix::pty::openpt(flags).unwrap();
        rustix::pty::grantpt(&controller).unwrap();
        rustix::pty::unlockpt(&controller).unwrap();
        let name = rustix::pty::ptsname(&controller, Vec::new()).unwrap();
        let path = Path::new(name.to_str().unwrap()).to_owned();
        let end = || File::options().read(true).write(true).open(&path).unwrap();
        let mut inside = Command::new("setsid");
        inside.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        let controller = File::from(controller);
        resize(&controller, columns, rows);
        let child = inside.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { controller, child, seen: String::new() }
    }

    /// Reads until `text` is there.
    fn until(&mut self, text: &str) {
        let mut piece = [0; 1024];
        while !self.seen.contains(text) {
            let read = self.controller.read(&mut piece);
            let read = read.unwrap_or_else(|error| panic!("{error} after {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    }
}

fn resize(controller: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(controller, size).unwrap();
}

#[test]
fn terminal_has_its_size_from_the_first_moment_and_follows() {
    let daemon = ready();
    let script =
        "stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done";
    let arguments = ["run", "--rm", "-it", "--name", "sized", IMAGE, "sh", "-c", script];
    let mut terminal = Terminal::new(101, 33, &cuddy(&daemon, &arguments));
    terminal.until("ready\r\n");
    assert!(terminal.seen.contains("33 101\r\n"), "{:?}", terminal.seen);
    resize(&terminal.controller, 122, 44);
    terminal.until("44 122\r\n");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(5));

    said(&daemon, &["run", "-d", "--name", "stays", IMAGE, "sleep", "1000"]);
    let arguments = ["exec", "-it", "stays", "sh", "-c", "stty size; read line; stty size"];
    let mut terminal = Terminal::new(90, 20, &cuddy(&daemon, &arguments));
    terminal.until("20 90\r\n");
    resize(&terminal.controller, 91, 21);
    terminal.controller.write_all(b"go\n").unwrap();
    terminal.until("21 91\r\n");
    assert!(terminal.child.wait().unwrap().success());
    said(&daemon, &["rm", "-f", "stays"]);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}
