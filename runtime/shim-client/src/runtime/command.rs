//! One execution of a runtime's binary: with a deadline, with limits for what it says, and with no
//! process left behind.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::endpoint::MAX_ANSWER;
use crate::error::Error;
use crate::text::printable;

/// Most bytes of the error output's end that are kept, so few that all of them are shown.
const MAX_ERRORS: usize = 2048;

/// How long output is waited for once the process has ended. Only what it has started can hold the
/// pipes open then, and all that the process itself wrote is in them.
const DRAIN: Duration = Duration::from_millis(500);

/// What a process said and how it ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
    errors: Vec<u8>,
}

impl Finished {
    /// The end of what it said about errors, or the beginning of what else it said, in one line.
    pub(super) fn complaint(&self) -> String {
        let said = if self.errors.is_empty() { &self.output } else { &self.errors };
        printable(&String::from_utf8_lossy(said))
    }

    /// The output of a process that has done what it was executed for.
    ///
    /// # Errors
    /// [`Error::Command`] with how it ended and what it said.
    pub(super) fn success(self, doing: &str) -> Result<Vec<u8>, Error> {
        let complaint = self.complaint();
        if !self.status.success() {
            return Err(Error::Command(format!("{doing}: {}: {complaint}", self.status)));
        }
        if !self.errors.is_empty() {
            log::warn!("{doing}: {complaint}");
        }
        Ok(self.output)
    }
}

/// A process that is killed, with its group, unless it is waited for.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        // Its number may be another's from now on.
        self.group = None;
        status
    }

    fn kill(&self) {
        if let Some(group) = self.group {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Executes `command`, gives it `input` and waits until it has ended, for `limit` at most.
///
/// # Errors
/// [`Error::Runtime`] when it can't be executed, [`Error::DeadlineExceeded`], and
/// [`Error::Command`] when it says more than any shim does. It is gone then, with its group.
pub(super) async fn run(
    doing: &str,
    mut command: Command,
    input: Vec<u8>,
    limit: Duration,
) -> Result<Finished, Error> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A signal of the terminal for this process is none for the other.
    command.process_group(0).kill_on_drop(true);
    let program = Path::new(command.as_std().get_program()).display().to_string();
    let place = command.as_std().get_current_dir().unwrap_or(Path::new(".")).to_owned();
    let child = command.spawn().map_err(|error| {
        Error::Runtime(format!("{doing}: executing {program} in {}: {error}", place.display()))
    })?;
    let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    let mut running = Running { child, group };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let talked = timeout(limit, talk(&mut running, input, &mut output, &mut errors)).await;
    let error = match talked {
        Ok(Ok(status)) => return Ok(Finished { status, output, errors }),
        Ok(Err(error)) => Error::Command(format!("{doing}: {program}: {error}")),
        Err(_) => {
            let said = printable(&String::from_utf8_lossy(&errors));
            let text = format!("{doing}: {program} has not ended for {limit:?}: {said}");
            Error::DeadlineExceeded(text)
        }
    };
    running.kill();
    // Nothing holds up the end of a killed process but the kernel, which may hang.
    let _reaped = timeout(DRAIN, running.wait()).await;
    Err(error)
}

/// Says `input`, listens to both outputs, and waits for the end.
async fn talk(
    running: &mut Running,
    input: Vec<u8>,
    output: &mut Vec<u8>,
    errors: &mut Vec<u8>,
) -> io::Result<ExitStatus> {
    let (stdin, stdout) = (running.child.stdin.take(), running.child.stdout.take());
    let stderr = running.child.stderr.take();
    let say = async {
        if let Some(mut stdin) = stdin {
            // It need not listen.
            let _closed = stdin.write_all(&input).await;
        }
    };
    let listen = async { tokio::try_join!(whole(stdout, output), end(stderr, errors)) };
    let mut talk = std::pin::pin!(async { tokio::join!(say, listen).1 });
    let status = tokio::select! {
        talked = &mut talk => {
            talked?;
            return running.wait().await;
        }
        status = running.wait() => status?,
    };
    match timeout(DRAIN, talk).await {
        Ok(talked) => talked.map(|_| status),
        Err(_) => Ok(status),
    }
}

/// Reads all of an output, which must not be longer than an answer.
async fn whole(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    while from.read_buf(to).await? > 0 {
        if to.len() > MAX_ANSWER {
            return Err(io::Error::other(format!("an answer of more than {MAX_ANSWER} bytes")));
        }
    }
    Ok(())
}

/// Reads all of an output and keeps its end.
async fn end(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    while from.read_buf(to).await? > 0 {
        let beyond = to.len().saturating_sub(MAX_ERRORS);
        to.drain(..beyond);
    }
    Ok(())
}
