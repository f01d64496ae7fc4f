//! The command line `cuddy`, as people and scripts use it.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use serde_json::Value;

use crate::cri::Cuddyd;

/// The small image, by the name that the lab's registry has for it.
pub const IMAGE: &str = "cuddy.test/busybox:latest";

/// Where logs of `cuddy run` are.
const LOGS: &str = "/var/log/cuddy/containers";

/// Commands for a daemon.
#[derive(Debug, Clone)]
pub struct Cuddy(PathBuf);

impl Cuddy {
    /// Those for this daemon, which gets the small image, so that none tells of its pull.
    ///
    /// # Panics
    /// When it can't be pulled.
    pub fn new(daemon: &Cuddyd) -> Self {
        daemon.pull("busybox");
        Self(daemon.path("cri.sock"))
    }

    /// A command, to be run in other ways than the following do. It is ended after two minutes.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=5", "120", "cuddy", "--address"]);
        command.arg(&self.0).args(arguments);
        command
    }

    /// A command that may take any time, and that nothing stands between it and signals.
    pub fn unlimited(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("cuddy");
        command.arg("--address").arg(&self.0).args(arguments);
        command
    }

    /// What a command without input leaves.
    ///
    /// # Panics
    /// When there is no such command.
    pub fn done(&self, arguments: &[&str]) -> Output {
        // The lab ends what says nothing for minutes.
        let _gone = writeln!(std::io::stderr(), "cuddy {}", arguments.join(" "));
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// What a command that succeeds prints.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn said(&self, arguments: &[&str]) -> String {
        let done = self.done(arguments);
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// What a command complains of that ends with this code.
    ///
    /// # Panics
    /// When it ends otherwise.
    #[track_caller]
    pub fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let done = self.done(arguments);
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {done:?}");
        String::from_utf8(done.stderr).unwrap()
    }

    /// What a command that succeeds prints as JSON.
    ///
    /// # Panics
    /// When it does not, or prints anything else.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.said(arguments)).unwrap()
    }

    /// What is known of a container, a pod or an image.
    ///
    /// # Panics
    /// When nothing is.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        self.json(&["inspect", name])[0].take()
    }
}

/// Directories of the logs of a container of this name.
///
/// # Panics
/// When they can't be read.
pub fn logs_of(name: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(LOGS) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let of = |path: &PathBuf| {
        path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}-"))
    };
    paths.filter(of).collect()
}

/// A terminal, and a command that has it.
#[derive(Debug)]
pub struct Terminal {
    /// What the user types goes here.
    pub controller: File,
    /// The command.
    pub child: Child,
    /// What the user has seen so far.
    pub seen: String,
}

impl Terminal {
    /// Runs a command in a terminal of this size.
    ///
    /// # Panics
    /// When there is no terminal, or no such command.
    pub fn new(columns: u16, rows: u16, command: &Command) -> Self {
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
    ///
    /// # Panics
    /// When the command ends before.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        let mut piece = [0; 1024];
        while !self.seen.contains(text) {
            let read = self.controller.read(&mut piece);
            let read = read.unwrap_or_else(|error| panic!("{error} after {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    }

    /// Types keys.
    ///
    /// # Panics
    /// When nobody has the terminal any more.
    pub fn keys(&mut self, keys: &[u8]) {
        self.controller.write_all(keys).unwrap();
    }

    /// Gives it another size.
    ///
    /// # Panics
    /// When it has gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        resize(&self.controller, columns, rows);
    }
}

fn resize(controller: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(controller, size).unwrap();
}
