//! A containerd of a version of the test's choice, beside the host's own: with its own
//! configuration, state and socket in a temporary directory.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::ctr::{Done, RUNTIME};
use crate::{eventually, host};

/// Directories `1.6`, `2.1`, … with the programs `containerd` and `ctr`.
const VERSIONS: &str = "/opt/cuddy/containerd";

/// The small image as an archive.
const ARCHIVE: &str = "/opt/cuddy/images/busybox.tar";

/// Most lines of the daemon's log that a failed test shows.
const TAIL: usize = 60;

/// A daemon; it ends with the value.
#[derive(Debug)]
pub struct Containerd {
    programs: PathBuf,
    version: String,
    dir: tempfile::TempDir,
    process: Option<Child>,
}

/// Directories with the programs of a version: all that were brought along, oldest first, and the
/// host's own at the end.
///
/// # Panics
/// When none was brought along.
pub fn versions() -> Vec<PathBuf> {
    let mut found = brought();
    found.push("/usr/bin".into());
    found
}

/// The directory with the programs of the newest version that was brought along. The host's own is
/// older.
///
/// # Panics
/// When none was brought along.
pub fn newest() -> PathBuf {
    brought().pop().unwrap()
}

/// What `tests/lab/containerds.sh` put into the payload, oldest first.
fn brought() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).collect();
    assert!(!found.is_empty(), "no version of containerd in {VERSIONS}");
    found.sort_by_key(|path| numbers(path.file_name().unwrap().to_str().unwrap()));
    found
}

/// The version of the programs in a directory, such as 1.6.20.
fn version(programs: &Path) -> String {
    let output = Command::new(programs.join("containerd")).arg("--version").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let version = String::from_utf8(output.stdout).unwrap();
    // "containerd PACKAGE VERSION REVISION"
    version.split_whitespace().nth(2).unwrap().trim_start_matches('v').to_owned()
}

/// The first two numbers of the version of the programs in a directory, such as (1, 6).
///
/// # Panics
/// When they do not tell it.
pub fn release(programs: &Path) -> (u32, u32) {
    numbers(&version(programs))
}

/// Major and minor number of a version such as 1.6.20 or 2.4.0-beta.0.
fn numbers(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// The runtime as kubelet would use it.
fn runtime(release: (u32, u32)) -> String {
    let cri =
        if release < (2, 0) { "io.containerd.grpc.v1.cri" } else { "io.containerd.cri.v1.runtime" };
    format!("[plugins.'{cri}'.containerd.runtimes.cuddy]\nruntime_type = '{RUNTIME}'\n")
}

impl Containerd {
    /// Starts the daemon of the version in `programs` and imports the small image.
    ///
    /// # Panics
    /// When that fails.
    pub fn new(programs: &Path) -> Self {
        let daemon = Self::configured(programs, |_, release| runtime(release));
        daemon.ctr(&["images", "import", ARCHIVE]).ok();
        daemon
    }

    /// Starts the daemon of the version in `programs`; `plugins` makes the configuration of its
    /// plug-ins from its directory and the first two numbers of its version.
    ///
    /// # Panics
    /// When that fails.
    pub(crate) fn configured(
        programs: &Path,
        plugins: impl FnOnce(&Path, (u32, u32)) -> String,
    ) -> Self {
        let version = version(programs);
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = Self { programs: programs.to_owned(), version, dir, process: None };
        let plugins = plugins(daemon.dir.path(), daemon.release());
        std::fs::write(daemon.path("config.toml"), daemon.configuration() + &plugins).unwrap();
        daemon.start();
        daemon
    }

    /// Its version, such as 1.6.20.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The first two numbers of its version, such as (1, 6).
    ///
    /// # Panics
    /// When the version is not of that form.
    pub fn release(&self) -> (u32, u32) {
        numbers(&self.version)
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Paths of its own, in the newest form of a configuration that the version knows, and the
    /// files in `conf.d`, as packages have it.
    fn configuration(&self) -> String {
        let dir = self.dir.path().display();
        let release = self.release();
        let version = 2 + i32::from(release >= (2, 0)) + i32::from(release >= (2, 3));
        let sockets = if version < 4 {
            format!("[grpc]\naddress = '{dir}/containerd.sock'\n")
        } else {
            let server = "plugins.'io.containerd.server.v1";
            format!(
                "[{server}.grpc']\naddress = '{dir}/containerd.sock'\n\
                 [{server}.ttrpc']\naddress = '{dir}/containerd.sock.ttrpc'\n"
            )
        };
        format!(
            "version = {version}\n\
             root = '{dir}/root'\n\
             state = '{dir}/state'\n\
             imports = ['{dir}/conf.d/*.toml']\n\
             {sockets}\
             [plugins.'io.containerd.internal.v1.opt']\n\
             path = '{dir}/opt'\n\
             [plugins.'io.containerd.nri.v1.nri']\n\
             disable = true\n"
        )
    }

    /// Starts the daemon, for the first time or again, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(&mut self) {
        // A test that goes through all versions takes minutes, and a lab that is silent is ended: so
        // past what the test runner keeps back.
        let _gone = writeln!(std::io::stderr(), "containerd {} starts", self.version);
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(self.programs.join("containerd"));
        command.arg("--config").arg(self.path("config.toml"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        eventually("containerd answers", || {
            let process = self.process.as_mut().unwrap();
            assert!(process.try_wait().unwrap().is_none(), "containerd ended");
            self.ctr(&["--connect-timeout", "2s", "version"]).code == Some(0)
        });
    }

    /// Ends the daemon by force, as a crash would.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Runs this version's `ctr` without input.
    ///
    /// # Panics
    /// When there is none.
    pub fn ctr(&self, arguments: &[&str]) -> Done {
        let begin = Instant::now();
        let mut command = Command::new("timeout");
        // ctr waits for ever for what never comes.
        command.args(["--kill-after=5", "120"]).arg(self.programs.join("ctr"));
        command.arg("--address").arg(self.path("containerd.sock")).args(arguments);
        Done::new(command.stdin(Stdio::null()).output().unwrap(), begin)
    }

    /// The state that `ctr task ls` shows.
    ///
    /// # Panics
    /// When it shows nothing.
    pub fn state(&self, name: &str) -> Option<String> {
        let list = self.ctr(&["task", "ls"]).ok();
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.and_then(|line| line.split_whitespace().nth(2)).map(str::to_owned)
    }

    /// Waits until `ctr task ls` shows this state.
    ///
    /// # Panics
    /// When it does not come.
    pub fn reaches(&self, name: &str, state: &str) {
        let what = format!("{name} is {state} under containerd {}", self.version);
        eventually(&what, || self.state(name).as_deref() == Some(state));
    }

    /// What is left of tasks: bundles, and mounts below the daemon's directory.
    pub fn remains(&self) -> Vec<PathBuf> {
        let bundles = self.path("state/io.containerd.runtime.v2.task/default");
        let entries = std::fs::read_dir(bundles).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).chain(host::mounts(self.dir.path())).collect()
    }

    /// The end of the daemon's log, under a heading.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL)..];
        format!("log of containerd {}:\n{}", self.version, tail.join("\n"))
    }

    /// The daemon's log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.tail());
            // Other tests shall not fail for this one's sake.
            for line in self.ctr(&["task", "ls", "--quiet"]).stdout.lines() {
                self.ctr(&["task", "rm", "--force", line]);
            }
        }
        if let Some(mut process) = self.process.take() {
            // The test is over: nobody asks how it went.
            let _gone = process.kill();
            let _gone = process.wait();
        }
    }
}
