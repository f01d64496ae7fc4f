//! Driver of the lab: boots L1, runs commands in it, ends it. See `tests/lab/README.md`.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use lab::client::{ExecError, Limits, Streams, exec};
use lab::frame::Request;
use lab::instance::{Instance, Options};
use lab::qemu::{Lifetime, Shape};
use lab::terminal::{RawMode, window_size};

/// Exit code when the lab itself failed.
const LAB_FAILED: u8 = 125;
/// Exit code when the command's time limit passed, as `timeout` has it.
const TIMED_OUT: u8 = 124;

/// A KVM host inside QEMU/TCG: boots it and runs commands there.
#[derive(Parser)]
#[command(name = "lab")]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Boot a lab, run one command in it, end it, and exit with the command's exit code.
    Run {
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        command: CommandArgs,
    },
    /// Boot a lab that stays until `down`; returns when it answers.
    Up {
        #[command(flatten)]
        lab: LabArgs,
        #[command(flatten)]
        machine: MachineArgs,
    },
    /// Run a command in a lab that is up and exit with its exit code.
    Exec {
        #[command(flatten)]
        lab: LabArgs,
        #[command(flatten)]
        command: CommandArgs,
    },
    /// Copy a file, or what is in a directory, into a directory of L1.
    Push {
        #[command(flatten)]
        lab: LabArgs,
        /// File or directory of this machine.
        from: PathBuf,
        /// Directory of L1; made if missing.
        to: String,
    },
    /// Copy a file, or what is in a directory, from L1 into a directory of this machine.
    Pull {
        #[command(flatten)]
        lab: LabArgs,
        /// File or directory of L1.
        from: String,
        /// Directory of this machine; made if missing.
        to: PathBuf,
    },
    /// End a lab.
    Down {
        #[command(flatten)]
        lab: LabArgs,
    },
}

#[derive(Args)]
struct LabArgs {
    /// The lab's directory.
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Args)]
struct MachineArgs {
    /// CPUs of L1.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    smp: u32,
    /// Memory of L1 in MiB.
    #[arg(long, default_value_t = 3072, value_parser = clap::value_parser!(u32).range(512..))]
    memory: u32,
    /// Deterministic mode: one CPU, one instruction is one nanosecond.
    #[arg(long)]
    icount: bool,
    /// Directory that L1 sees read-only at /opt/cuddy.
    #[arg(long)]
    payload: Option<PathBuf>,
    /// Image file of tests/lab/seed.sh: the test images, imported into containerd already.
    #[arg(long)]
    seed: Option<PathBuf>,
    /// Directory that L1 sees read-write at /share.
    #[arg(long)]
    share: Option<PathBuf>,
    /// Size in MiB of a disk that L1 has at /disk; sparse, empty, and gone with the lab.
    #[arg(long, value_parser = clap::value_parser!(u32).range(64..))]
    disk: Option<u32>,
    /// Seconds until L1 must have booted.
    #[arg(long, default_value_t = 120)]
    boot_timeout: u64,
    /// L1 image directory; by default what tests/lab/build.sh makes.
    #[arg(long)]
    image: Option<PathBuf>,
}

#[derive(Args)]
struct CommandArgs {
    /// Seconds until the command is killed and the exit code is 124; 600 by default, a day
    /// with a terminal.
    #[arg(long)]
    timeout: Option<u64>,
    /// Seconds without output until the command is killed and the exit code is 124.
    #[arg(long)]
    silence: Option<u64>,
    /// Give the command a terminal.
    #[arg(short = 't', long)]
    tty: bool,
    /// Pass standard input on (always with -t); otherwise the command's is empty.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Set a variable for the command: NAME=VALUE.
    #[arg(short = 'e', long = "env")]
    env: Vec<String>,
    /// Working directory in L1.
    #[arg(long)]
    cwd: Option<String>,
    /// Command and arguments.
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    match run(Cli::parse().action) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            let timed_out =
                matches!(error.downcast_ref(), Some(ExecError::TimedOut(_) | ExecError::Silent(_)));
            ExitCode::from(if timed_out { TIMED_OUT } else { LAB_FAILED })
        }
    }
}

fn run(action: Action) -> Result<ExitCode> {
    match action {
        Action::Run { machine, command } => run_once(&machine, &command),
        Action::Up { lab, machine } => up(&lab.dir, &machine),
        Action::Exec { lab, command } => run_command(&Instance::open(&lab.dir)?, &command),
        Action::Push { lab, from, to } => push(&Instance::open(&lab.dir)?, &from, &to),
        Action::Pull { lab, from, to } => pull(&Instance::open(&lab.dir)?, &from, &to),
        Action::Down { lab } => {
            Instance::open(&lab.dir)?.stop()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Boots, runs, ends. QEMU dies with this process (see [`Lifetime::Driver`]) and the scratch
/// directory is removed by a process that outlives it, so nothing is left however it ends.
fn run_once(machine: &MachineArgs, command: &CommandArgs) -> Result<ExitCode> {
    let image = image(machine)?;
    let scratch = tempfile::Builder::new().prefix("cuddy-lab-").tempdir()?;
    let mut sweeper = sweeper(scratch.path())?;
    let result = Instance::start(scratch.path(), &image, &options(machine)?, Lifetime::Driver)
        .map_err(anyhow::Error::from)
        .and_then(|instance| {
            let result = run_command(&instance, command);
            instance.stop()?;
            result
        });
    scratch.close().context("removing the scratch directory")?;
    drop(sweeper.stdin.take());
    sweeper.wait()?;
    result
}

/// A shell that removes `directory` as soon as this process has ended, even by SIGKILL.
fn sweeper(directory: &Path) -> Result<Child> {
    use std::os::unix::process::CommandExt;
    Command::new("sh")
        .args(["-c", "read -r _; rm -rf -- \"$0\""])
        .arg(directory)
        .process_group(0)
        .stdin(Stdio::piped())
        .spawn()
        .context("starting sh")
}

fn up(directory: &Path, machine: &MachineArgs) -> Result<ExitCode> {
    let image = image(machine)?;
    fs::create_dir_all(directory)
        .with_context(|| format!("making the directory {}", directory.display()))?;
    let directory = directory.canonicalize()?;
    Instance::start(&directory, &image, &options(machine)?, Lifetime::Detached)?;
    Ok(ExitCode::SUCCESS)
}

fn options(machine: &MachineArgs) -> Result<Options> {
    let seed =
        machine.seed.as_ref().map(fs::canonicalize).transpose().context("finding the seed")?;
    Ok(Options {
        seed,
        shape: Shape { cpus: machine.smp, memory: machine.memory, icount: machine.icount },
        payload: machine.payload.clone(),
        share: machine.share.clone(),
        disk: machine.disk,
        boot_limit: Duration::from_secs(machine.boot_timeout),
    })
}

/// The image directory: the one given, or that of build.sh, which builds it when needed.
fn image(machine: &MachineArgs) -> Result<PathBuf> {
    if let Some(image) = &machine.image {
        return Ok(image.canonicalize()?);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.sh");
    let output = Command::new(&script)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {}", script.display()))?;
    if !output.status.success() {
        bail!("{} failed: {}", script.display(), output.status);
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

fn run_command(instance: &Instance, command: &CommandArgs) -> Result<ExitCode> {
    let mut env = Vec::new();
    for pair in &command.env {
        let (name, value) = pair.split_once('=').context("--env takes NAME=VALUE")?;
        env.push((name.to_owned(), value.to_owned()));
    }
    if let (true, Ok(term)) = (command.tty, std::env::var("TERM")) {
        env.push(("TERM".to_owned(), term));
    }
    let request = Request {
        token: instance.token().to_owned(),
        argv: command.command.clone(),
        env,
        cwd: command.cwd.clone(),
        terminal: command.tty.then(window_size),
    };
    let input =
        (command.tty || command.stdin).then(|| Box::new(io::stdin()) as Box<dyn Read + Send>);
    let raw = command.tty.then(RawMode::enter).and_then(Result::ok);
    let mut output = io::stdout().lock();
    let streams = Streams { input, output: &mut output, error: &mut io::stderr() };
    let limit = command.timeout.unwrap_or(if command.tty { 24 * 60 * 60 } else { 600 });
    let total = Duration::from_secs(limit);
    let silence = command.silence.map_or(total, Duration::from_secs);
    let result = execute(instance, &request, streams, Limits { total, silence });
    drop(raw);
    Ok(ExitCode::from(u8::try_from(result?).unwrap_or(u8::MAX)))
}

fn execute(
    instance: &Instance,
    request: &Request,
    streams: Streams<'_>,
    limits: Limits,
) -> Result<i32> {
    let stream = instance.connect()?;
    exec(&stream, request, streams, limits).map_err(|error| match error {
        ExecError::Lost | ExecError::TimedOut(_) | ExecError::Silent(_) => {
            let report = instance.report();
            eprint!("{report}");
            error.into()
        }
        other => other.into(),
    })
}

/// Transfers have no limit of their own; a lab that hangs must not hang the caller.
const TRANSFER_LIMITS: Limits =
    Limits { total: Duration::from_secs(600), silence: Duration::from_secs(600) };

/// Arguments for tar that pack `path`: the content of a directory, or the file.
fn packing(path: &Path) -> Result<[String; 3]> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    if path.is_dir() {
        return Ok(["-C".to_owned(), text(path), ".".to_owned()]);
    }
    let name = path.file_name().with_context(|| format!("{} has no name", path.display()))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.map_or_else(|| ".".to_owned(), text);
    Ok(["-C".to_owned(), parent, text(Path::new(name))])
}

fn transfer(instance: &Instance, script: &str, argument: &str, streams: Streams<'_>) -> Result<()> {
    let request = Request {
        token: instance.token().to_owned(),
        argv: ["sh", "-ec", script, argument].map(str::to_owned).to_vec(),
        ..Request::default()
    };
    match execute(instance, &request, streams, TRANSFER_LIMITS)? {
        0 => Ok(()),
        code => bail!("tar in L1 ended with exit code {code}"),
    }
}

fn push(instance: &Instance, from: &Path, to: &str) -> Result<ExitCode> {
    if !from.exists() {
        bail!("{} does not exist", from.display());
    }
    let mut tar = Command::new("tar")
        .args(["-c", "--format=pax"])
        .args(packing(from)?)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting tar")?;
    let input = tar.stdout.take().map(|output| Box::new(output) as Box<dyn Read + Send>);
    let streams = Streams { input, output: &mut io::stdout(), error: &mut io::stderr() };
    transfer(
        instance,
        "mkdir -p \"$0\"; exec tar -x --warning=no-timestamp -C \"$0\"",
        to,
        streams,
    )?;
    finish(&mut tar)
}

fn pull(instance: &Instance, from: &str, to: &Path) -> Result<ExitCode> {
    fs::create_dir_all(to)?;
    let mut tar = Command::new("tar")
        .arg("-xC")
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .context("starting tar")?;
    let mut output = tar.stdin.take().context("tar has no input")?;
    let streams = Streams { input: None, output: &mut output, error: &mut io::stderr() };
    let script = "if [ -d \"$0\" ]; then exec tar -c -C \"$0\" .; \
                  else exec tar -c -C \"$(dirname \"$0\")\" \"$(basename \"$0\")\"; fi";
    transfer(instance, script, from, streams)?;
    drop(output);
    finish(&mut tar)
}

fn finish(tar: &mut Child) -> Result<ExitCode> {
    let status = tar.wait()?;
    if !status.success() {
        bail!("tar failed: {status}");
    }
    Ok(ExitCode::SUCCESS)
}
