//! One lab: a directory, a QEMU process, an agent that answers.
//!
//! The directory holds `lab.json` (see [`State`]), `console.log` and `qemu.log`. `lab.json` is written
//! last, so its presence means that the lab is up. `payload.erofs` and `disk.raw` are there where the
//! lab has them.

use std::fs;
use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::cpio::Archive;
use crate::qemu::{self, Lifetime, Machine, Shape, Started};

/// Lines of L1's console that a report shows.
const CONSOLE_TAIL: usize = 40;

/// How long a killed QEMU may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// Programs of L1 beside those of its image.
const GUEST_SCRIPTS: [(&str, &[u8]); 5] = [
    ("lab-containerd", include_bytes!("../guest/lab-containerd")),
    ("lab-images", include_bytes!("../guest/lab-images")),
    ("lab-registry", include_bytes!("../guest/lab-registry")),
    ("lab-seed", include_bytes!("../guest/lab-seed")),
    ("lab-seed-into", include_bytes!("../guest/lab-seed-into")),
];

/// What a lab is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// CPUs, memory, mode.
    pub shape: Shape,
    /// Directory mounted read-only at `/opt/cuddy`.
    pub payload: Option<PathBuf>,
    /// Image file with containerd's prepared state, from `seed.sh`; an absolute path.
    pub seed: Option<PathBuf>,
    /// Directory mounted read-write at `/share`.
    pub share: Option<PathBuf>,
    /// Size in MiB of a disk of its own, mounted at `/disk`; it goes with the lab.
    pub disk: Option<u32>,
    /// Time from QEMU's start to the agent's first sign of life.
    pub boot_limit: Duration,
}

/// How to reach and to end a running lab; kept as `lab.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct State {
    /// QEMU's process id.
    pub pid: i32,
    /// Port of 127.0.0.1 that leads to the agent.
    pub port: u16,
    /// The agent's secret.
    pub token: String,
}

/// Why a lab could not be started, reached or ended.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file or program of this machine failed; `doing` names it.
    #[error("{doing}")]
    Host {
        /// What was being done.
        doing: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{program} failed: {output}")]
    Program {
        /// Its name.
        program: String,
        /// What it wrote.
        output: String,
    },
    /// QEMU ended before the agent answered.
    #[error("L1 died while booting\n{report}")]
    DiedBooting {
        /// Tails of QEMU's messages and of L1's console.
        report: String,
    },
    /// The agent did not answer in time.
    #[error("L1 did not boot within {limit:?}\n{report}")]
    BootTimedOut {
        /// The time allowed.
        limit: Duration,
        /// Tails of QEMU's messages and of L1's console.
        report: String,
    },
    /// The directory has no running lab.
    #[error("no lab is running in {0}")]
    NotRunning(PathBuf),
    /// The directory has one already.
    #[error("a lab is running in {0}")]
    AlreadyRunning(PathBuf),
}

impl LabError {
    fn host(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Host { doing, source }
    }
}

/// A lab that runs.
#[derive(Debug)]
pub struct Instance {
    directory: PathBuf,
    state: State,
}

impl Instance {
    /// Boots a lab in `directory`, which must exist, from the cached `image`.
    ///
    /// # Errors
    /// See [`LabError`]; nothing is left running then.
    pub fn start(
        directory: &Path,
        image: &Path,
        options: &Options,
        lifetime: Lifetime,
    ) -> Result<Self, LabError> {
        if Self::open(directory).is_ok() {
            return Err(LabError::AlreadyRunning(directory.to_owned()));
        }
        write_initrd(directory, image)?;
        if let Some(payload) = &options.payload {
            pack_payload(payload, &directory.join("payload.erofs"))?;
        }
        if let Some(disk) = options.disk {
            let file = fs::File::create(directory.join(qemu::DISK));
            let sized = file.and_then(|file| file.set_len(u64::from(disk) << 20));
            sized.map_err(LabError::host("making the lab's disk"))?;
        }
        if let Some(share) = &options.share {
            serve_share(directory, image, share, lifetime)?;
        }
        let token = random_token()?;
        let machine = Machine {
            directory,
            image,
            shape: &options.shape,
            token: &token,
            payload: options.payload.is_some(),
            seed: options.seed.as_deref(),
            share: options.share.is_some(),
            disk: options.disk.is_some(),
        };
        let mut started = machine.start(lifetime).map_err(LabError::host("starting QEMU"))?;
        let booted = wait_until_booted(directory, &started, options.boot_limit);
        match booted.and_then(|port| Self::record(directory, &started.child, port, token)) {
            Ok(instance) => Ok(instance),
            Err(error) => {
                // It may have ended by itself.
                let _ = started.child.kill();
                let _ = started.child.wait();
                Err(error)
            }
        }
    }

    fn record(directory: &Path, child: &Child, port: u16, token: String) -> Result<Self, LabError> {
        let failed = || LabError::host("writing lab.json");
        // QEMU has read it; L1 runs from its own copy.
        fs::remove_file(directory.join("initrd.cpio")).map_err(failed())?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other).map_err(failed())?;
        let state = State { pid, port, token };
        let json = serde_json::to_vec(&state).map_err(io::Error::from).map_err(failed())?;
        let path = directory.join("lab.json");
        fs::write(path.with_extension("tmp"), json).map_err(failed())?;
        fs::rename(path.with_extension("tmp"), path).map_err(failed())?;
        Ok(Self { directory: directory.to_owned(), state })
    }

    /// Finds the lab that runs in `directory`.
    ///
    /// # Errors
    /// [`LabError::NotRunning`] if there is none, or its QEMU has ended.
    pub fn open(directory: &Path) -> Result<Self, LabError> {
        let not_running = || LabError::NotRunning(directory.to_owned());
        let json = fs::read(directory.join("lab.json")).map_err(|_| not_running())?;
        let state: State = serde_json::from_slice(&json).map_err(|_| not_running())?;
        let instance = Self { directory: directory.to_owned(), state };
        if instance.is_running() { Ok(instance) } else { Err(not_running()) }
    }

    /// Whether QEMU runs: its command line carries the token, so a reused pid is recognised.
    #[must_use]
    pub fn is_running(&self) -> bool {
        fs::read(format!("/proc/{}/cmdline", self.state.pid)).is_ok_and(|line| {
            let token = self.state.token.as_bytes();
            line.windows(token.len()).any(|part| part == token)
        })
    }

    /// Secret to put into requests.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.state.token
    }

    /// Connects to the agent.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn connect(&self) -> Result<TcpStream, LabError> {
        let stream = TcpStream::connect(("127.0.0.1", self.state.port))
            .map_err(LabError::host("connecting to L1"))?;
        stream.set_nodelay(true).map_err(LabError::host("connecting to L1"))?;
        Ok(stream)
    }

    /// Last lines of QEMU's messages and of L1's console.
    #[must_use]
    pub fn report(&self) -> String {
        report(&self.directory)
    }

    /// Kills QEMU and waits until it is gone. A lab that has ended already is no error.
    ///
    /// # Errors
    /// QEMU cannot be killed or does not end.
    pub fn stop(&self) -> Result<(), LabError> {
        let failed = || LabError::host(format!("killing QEMU, process {}", self.state.pid));
        let pid = Pid::from_raw(self.state.pid).filter(|_| self.is_running());
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // Checked again: the descriptor now names one process for good.
        if let Some(pidfd) = pidfd.filter(|_| self.is_running()) {
            kill_and_wait(&pidfd).map_err(failed())?;
        }
        for name in ["lab.json", "payload.erofs", "share.sock", qemu::DISK] {
            // What is not there needs no removal.
            let _ = fs::remove_file(self.directory.join(name));
        }
        Ok(())
    }
}

fn kill_and_wait(pidfd: &OwnedFd) -> io::Result<()> {
    pidfd_send_signal(pidfd, Signal::KILL)?;
    let limit = Timespec::try_from(KILL_LIMIT).ok();
    match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], limit.as_ref())? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

fn random_token() -> Result<String, LabError> {
    let failed = || LabError::host("reading random bytes");
    let mut bytes = [0; 16];
    let mut source = fs::File::open("/dev/urandom").map_err(failed())?;
    source.read_exact(&mut bytes).map_err(failed())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The cached initramfs, followed by an archive with the agent and the guest scripts.
fn write_initrd(directory: &Path, image: &Path) -> Result<(), LabError> {
    let agent = std::env::current_exe()
        .map(|path| path.with_file_name("lab-agent"))
        .and_then(fs::read)
        .map_err(LabError::host("reading lab-agent, which belongs beside lab"))?;
    let mut archive = Archive::default();
    archive.directory("lab");
    archive.directory("lab/bin");
    archive.executable("lab/lab-agent", &agent);
    archive.executable("lab/lab-setup", include_bytes!("../guest/lab-setup"));
    for (name, script) in GUEST_SCRIPTS {
        archive.executable(&format!("lab/bin/{name}"), script);
    }
    let mut bytes = fs::read(image.join("initrd.cpio"))
        .map_err(LabError::host(format!("reading the lab image {}", image.display())))?;
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(archive.finish());
    fs::write(directory.join("initrd.cpio"), bytes).map_err(LabError::host("writing initrd.cpio"))
}

fn pack_payload(payload: &Path, image: &Path) -> Result<(), LabError> {
    let output = Command::new("mkfs.erofs")
        .args(["--quiet", "--all-root"])
        .args([image, payload])
        .output()
        .map_err(LabError::host("running mkfs.erofs"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::Program {
        program: "mkfs.erofs".to_owned(),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Starts the virtio-fs server for `share`. It ends with QEMU's connection.
fn serve_share(
    directory: &Path,
    image: &Path,
    share: &Path,
    lifetime: Lifetime,
) -> Result<(), LabError> {
    let failed = || LabError::host(format!("sharing {}", share.display()));
    let share = share.canonicalize().map_err(failed())?;
    let socket = directory.join("share.sock");
    let _ = fs::remove_file(&socket); // of an earlier lab
    let listener = UnixListener::bind(&socket).map_err(failed())?;
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty())
        .map_err(io::Error::from)
        .map_err(failed())?;
    let log = fs::File::create(directory.join("share.log")).map_err(failed())?;
    qemu::command(image, "virtiofsd", lifetime)
        .arg(format!("--fd={}", listener.as_raw_fd()))
        .arg("--shared-dir")
        .arg(share)
        .args(["--sandbox=chroot", "--cache=auto", "--xattr"])
        .stderr(log)
        .spawn()
        .map_err(failed())?;
    Ok(())
}

fn wait_until_booted(
    directory: &Path,
    started: &Started,
    limit: Duration,
) -> Result<u16, LabError> {
    let deadline = Instant::now() + limit;
    let died = || LabError::DiedBooting { report: report(directory) };
    let waiting = || LabError::host("waiting for L1");
    started.monitor.set_read_timeout(Some(limit)).map_err(waiting())?;
    let port = qemu::forwarded_port(&started.monitor).map_err(|_| died())?;
    let mut ready: &UnixStream = &started.ready;
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    ready.set_read_timeout(Some(left)).map_err(waiting())?;
    match ready.read(&mut [0; 64]) {
        Ok(1..) => Ok(port),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(LabError::BootTimedOut { limit, report: report(directory) })
        }
        Ok(0) | Err(_) => Err(died()),
    }
}

fn report(directory: &Path) -> String {
    let mut report = String::new();
    for (name, title) in [("qemu.log", "QEMU"), ("console.log", "L1 console")] {
        let text = fs::read(directory.join(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(CONSOLE_TAIL)..];
        if !tail.is_empty() {
            report.push_str(&format!("--- {title} ({name})\n{}\n", tail.join("\n")));
        }
    }
    report
}
