//! containerd's own client, and the tasks that tests run with it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// The runtime under test.
pub const RUNTIME: &str = "io.containerd.cuddy.v2";

/// The small image.
pub const BUSYBOX: &str = "cuddy.test/busybox:latest";

/// What a command left.
#[derive(Debug)]
pub struct Done {
    /// Exit code; 128 + signal is not among them: `ctr` itself was killed then.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub seconds: f64,
}

impl Done {
    pub(crate) fn new(output: Output, begin: Instant) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            seconds: begin.elapsed().as_secs_f64(),
        }
    }

    /// Asserts success and returns standard output.
    ///
    /// # Panics
    /// When the command failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

/// Starts containerd once per test process, where the lab's script is; elsewhere it must run.
fn containerd() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let started = Command::new("lab-containerd").stdout(Stdio::null()).status();
        assert!(started.is_ok_and(|status| status.success()), "containerd does not start");
    });
}

/// A `ctr` command to be run in other ways than [`ctr`] does.
pub fn command(arguments: &[&str]) -> Command {
    containerd();
    let mut command = Command::new("timeout");
    // ctr waits for ever for what never comes. The longest test takes 30 s on a quiet machine and
    // five times that beside builds: a limit that a busy machine reaches tells nothing.
    command.args(["--kill-after=5", "240", "ctr"]).args(arguments);
    command
}

/// Runs `ctr` without input.
///
/// # Panics
/// When there is no `ctr`.
pub fn ctr(arguments: &[&str]) -> Done {
    let begin = Instant::now();
    Done::new(command(arguments).stdin(Stdio::null()).output().unwrap(), begin)
}

/// Runs `ctr` with input.
///
/// # Panics
/// When there is no `ctr`.
pub fn ctr_with_input(arguments: &[&str], input: &[u8]) -> Done {
    let begin = Instant::now();
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // Whoever does not read its input may end without it.
        let _unread = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Done::new(output, begin)
}

/// Runs `ctr` with a terminal of its own; the terminal's output comes as standard output.
///
/// # Panics
/// When there is no `script`.
pub fn ctr_with_terminal(arguments: &[&str]) -> Done {
    containerd();
    let begin = Instant::now();
    let quoted: Vec<_> =
        arguments.iter().map(|a| format!("'{}'", a.replace('\'', "'\\''"))).collect();
    let line = format!("timeout --foreground --kill-after=5 120 ctr {}", quoted.join(" "));
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    Done::new(command.stdin(Stdio::null()).output().unwrap(), begin)
}

/// A container's name, and its end: whatever a test left of it is removed when this is dropped.
#[derive(Debug)]
pub struct Name(String);

impl Name {
    /// A name that no other test has.
    pub fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{what}-{}-{count}", std::process::id()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Runs a command in a new container of the small image until it ends.
    pub fn run(&self, arguments: &[&str]) -> Done {
        let fixed = ["run", "--rm", "--runtime", RUNTIME, BUSYBOX, self.as_str()];
        ctr(&[&fixed, arguments].concat())
    }

    /// Starts a container of the small image that runs a command in the background.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn detach(&self, arguments: &[&str]) {
        let fixed = ["run", "--detach", "--runtime", RUNTIME, BUSYBOX, self.as_str()];
        ctr(&[&fixed, arguments].concat()).ok();
    }

    /// Runs a command in the running container.
    pub fn exec(&self, arguments: &[&str]) -> Done {
        let exec = Self::new("exec");
        let fixed = ["task", "exec", "--exec-id", exec.as_str(), self.as_str()];
        let done = ctr(&[&fixed, arguments].concat());
        std::mem::forget(exec);
        done
    }

    /// The state that `ctr task ls` shows.
    pub fn state(&self) -> Option<String> {
        let list = ctr(&["task", "ls"]).ok();
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(self.as_str()));
        line.and_then(|line| line.split_whitespace().nth(2)).map(str::to_owned)
    }

    /// Removes the container, whose process has ended by SIGKILL, and waits until nothing is left.
    ///
    /// # Panics
    /// When that fails, or it has ended otherwise.
    #[track_caller]
    pub fn remove_killed(&self) {
        let removed = ctr(&["task", "rm", self.as_str()]);
        assert!(removed.stderr.contains("exit code 137"), "{removed:?}");
        ctr(&["container", "rm", self.as_str()]).ok();
        crate::host::settled();
    }

    /// Ends and removes the container as a user would.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn remove(&self) {
        ctr(&["task", "rm", "--force", self.as_str()]).ok();
        ctr(&["container", "rm", self.as_str()]).ok();
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        println!("{}", shims_words());
        // Other tests shall not fail for this one's sake.
        ctr(&["task", "rm", "--force", self.as_str()]);
        ctr(&["container", "rm", self.as_str()]);
    }
}

/// The last that shims wrote to the log of the host's containerd.
fn shims_words() -> String {
    let log = std::fs::read_to_string("/var/log/containerd.log").unwrap_or_default();
    let words: Vec<_> = log.lines().filter(|line| line.contains("runtime=cuddy")).collect();
    words[words.len().saturating_sub(20)..].join("\n")
}

/// What containerd publishes while the value lives.
#[derive(Debug)]
pub struct Events {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Events {
    /// Begins to listen.
    ///
    /// # Panics
    /// When there is no `ctr`.
    pub fn listen() -> Self {
        let mut command = command(&["events"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The test may have seen enough.
                let _enough = sender.send(line);
            }
        });
        let events = Self { child, lines };
        events.warm_up();
        events
    }

    /// A subscription has no answer: events of a namespace's label show that it is there.
    fn warm_up(&self) {
        for n in 0.. {
            assert!(n < 100, "no event arrives");
            ctr(&["namespace", "label", "default", &format!("cuddy.test={n}")]);
            let wait = std::time::Duration::from_secs(1);
            if self.lines.recv_timeout(wait).is_ok() {
                return;
            }
        }
    }

    /// Topics of a container's task events up to and including `last`, with their payload.
    ///
    /// # Panics
    /// When `last` does not come.
    pub fn until(&self, name: &Name, last: &str) -> Vec<(String, String)> {
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(crate::PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("{last} does not come after {seen:#?}"));
            let Some(start) = line.find("/tasks/").filter(|_| line.contains(name.as_str())) else {
                continue;
            };
            let (topic, payload) = line[start..].split_once(' ').unwrap_or((&line[start..], ""));
            seen.push((topic.to_owned(), payload.to_owned()));
            if topic == last {
                return seen;
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // `timeout` passes the signal on.
        let _gone = Command::new("kill").arg(self.child.id().to_string()).status();
        let _gone = self.child.wait();
    }
}
