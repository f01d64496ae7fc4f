//! A plugin's process and its process group.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::MAX_MESSAGE;

/// Most bytes of the error output's end that are kept.
const MAX_ERRORS: usize = 4096;

/// How long output is waited for once the process has ended. Only what it has started can hold the
/// pipes open then, and all that the process itself wrote is in them.
const DRAIN: Duration = Duration::from_millis(500);

/// How a conversation with a plugin ended.
pub(super) enum End {
    /// It has ended by itself.
    Status(ExitStatus),
    /// It was killed because of the time.
    Late,
    /// It was killed because of its output.
    TooLong,
}

/// Starts a process in a group of its own, which can be talked to.
///
/// # Errors
/// What the kernel answered.
pub(super) fn start(mut command: Command) -> io::Result<Child> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A signal of the terminal for this process is none for the other.
    command.process_group(0).kill_on_drop(true).spawn()
}

/// A process that is killed, with its group, unless it has ended.
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
    pub(super) output: Vec<u8>,
    pub(super) errors: Vec<u8>,
}

impl Running {
    pub(super) fn new(child: Child) -> Self {
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Self { child, group, output: Vec::new(), errors: Vec::new() }
    }

    /// Says `input`, keeps what is answered, and waits for the end, for `limit` at most.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(super) async fn talk(&mut self, input: &[u8], limit: Duration) -> io::Result<End> {
        match timeout(limit, self.converse(input)).await {
            Ok(Ok(Some(status))) => return Ok(End::Status(status)),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(None)) => self.end().await,
            Err(_) => {
                self.end().await;
                return Ok(End::Late);
            }
        }
        Ok(End::TooLong)
    }

    /// Kills the group and takes note of the end, which only a kernel that hangs can hold up.
    async fn end(&mut self) {
        self.kill();
        let _reaped = timeout(DRAIN, self.child.wait()).await;
    }

    fn kill(&mut self) {
        // Its number may be another's once the process was waited for.
        if let Some(group) = self.group.take() {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }

    /// None if it says too much.
    async fn converse(&mut self, input: &[u8]) -> io::Result<Option<ExitStatus>> {
        let (stdin, stdout) = (self.child.stdin.take(), self.child.stdout.take());
        let stderr = self.child.stderr.take();
        let (output, errors) = (&mut self.output, &mut self.errors);
        let say = async {
            if let Some(mut stdin) = stdin {
                // It need not listen.
                let _closed = stdin.write_all(input).await;
            }
        };
        let listen = async { tokio::try_join!(whole(stdout, output), tail(stderr, errors)) };
        let mut talk = std::pin::pin!(async { tokio::join!(say, listen).1 });
        let (talked, status) = tokio::select! {
            talked = &mut talk => {
                // Whoever says too much is not waited for.
                let complete = talked?.0;
                if !complete {
                    return Ok(None);
                }
                (Some(true), self.child.wait().await?)
            }
            status = self.child.wait() => (None, status?),
        };
        self.group = None;
        let complete = match talked {
            Some(complete) => complete,
            None => timeout(DRAIN, talk).await.map_or(Ok(true), |done| done.map(|done| done.0))?,
        };
        Ok(complete.then_some(status))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads all of an output; false if it is longer than a message.
async fn whole(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) -> io::Result<bool> {
    let Some(mut from) = from else { return Ok(true) };
    while from.read_buf(to).await? > 0 {
        if to.len() > MAX_MESSAGE {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads all of an output and keeps its end.
async fn tail(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    while from.read_buf(to).await? > 0 {
        let beyond = to.len().saturating_sub(MAX_ERRORS);
        to.drain(..beyond);
    }
    Ok(())
}
