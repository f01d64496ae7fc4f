//! `hooks` of a configuration whose place is the host (config.md, "POSIX-platform Hooks"). These
//! are prestart, createRuntime, poststart and poststop. They run beside the shim with the
//! container's state on their standard input. The process id in the state is that of the machine's
//! VMM; poststop hooks are told none. The agent runs the kinds that belong into the container.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use api::Error;
use oci_spec::runtime::{ContainerState, Hook, State, StateBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::spec::Document;

/// Longest time for a hook that states none. Without it one that hangs would hang the sandbox.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of a hook's error output that are kept for the message.
const MAX_COMPLAINT: u64 = 1024;

/// Time that the error output of a hook that has ended has to arrive.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The hooks of a container that run on the host, and what they are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    lists: oci_spec::runtime::Hooks,
    /// The container's state but for status and process id.
    state: State,
}

/// When hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// prestart, then createRuntime: the machine runs and the root filesystem is there.
    Create,
    /// poststart: the container's program runs.
    Started,
    /// poststop: the container is deleted.
    Stopped,
}

impl Hooks {
    /// Reads the configuration of container `id` in `bundle`; nothing if no hook is for the host.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a hook of the host has no absolute path, or a time limit of zero.
    pub fn from_spec(spec: &Document, id: &str, bundle: &Path) -> Result<Option<Self>, Error> {
        let Some(lists) = spec.get::<oci_spec::runtime::Hooks>("/hooks")? else { return Ok(None) };
        let state = StateBuilder::default().version("1.2.0").id(id).bundle(bundle);
        let state = state.annotations(spec.annotations()?).build();
        let state = state.map_err(|error| Error::failed("describing a container", &error))?;
        let hooks = Self { lists, state };
        let all = [Moment::Create, Moment::Started, Moment::Stopped];
        let all = all.into_iter().flat_map(|moment| hooks.of(moment)).collect::<Vec<_>>();
        for hook in &all {
            let path = hook.path();
            if !path.is_absolute() {
                return Err(Error::Invalid(format!("hook {path:?}: the path is not absolute")));
            }
            if let Some(seconds @ ..=0) = hook.timeout() {
                return Err(Error::Invalid(format!("hook {path:?}: a timeout of {seconds}")));
            }
        }
        let none = all.is_empty();
        Ok((!none).then_some(hooks))
    }

    fn of(&self, moment: Moment) -> impl Iterator<Item = &Hook> {
        let (first, then) = match moment {
            Moment::Create => (self.lists.prestart(), self.lists.create_runtime()),
            Moment::Started => (self.lists.poststart(), &None),
            Moment::Stopped => (self.lists.poststop(), &None),
        };
        first.iter().chain(then).flatten()
    }

    /// Runs the hooks of a moment in their order, each to its end. `pid` is the machine's process.
    ///
    /// # Errors
    /// [`Error::Failed`] with the hook, why, and what it said; later hooks are not run then. What
    /// poststop hooks do is only logged, and all of them are run.
    pub async fn run(&self, moment: Moment, pid: u32) -> Result<(), Error> {
        let status = match moment {
            Moment::Create => ContainerState::Creating,
            Moment::Started => ContainerState::Running,
            Moment::Stopped => ContainerState::Stopped,
        };
        let state = self.state(status, pid)?;
        for hook in self.of(moment) {
            let failed = match run(hook, self.state.bundle(), &state).await {
                Ok(()) => continue,
                Err(reason) => format!("hook {:?} ({status}): {reason}", hook.path()),
            };
            if moment != Moment::Stopped {
                return Err(Error::Failed(failed));
            }
            log::warn!("container {}: {failed}", self.state.id());
        }
        Ok(())
    }

    /// The container's state as hooks are told it (runtime.md, "State").
    fn state(&self, status: ContainerState, pid: u32) -> Result<Vec<u8>, Error> {
        let mut state = self.state.clone();
        state.set_status(status);
        if status != ContainerState::Stopped {
            state.set_pid(i32::try_from(pid).ok());
        }
        serde_json::to_vec(&state)
            .map_err(|error| Error::failed("describing a container to its hooks", &error))
    }
}

async fn run(hook: &Hook, bundle: &Path, state: &[u8]) -> Result<(), String> {
    let mut command = Command::new(hook.path());
    if let Some((name, arguments)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(name).args(arguments);
    }
    let environment = hook.env().iter().flatten().filter_map(|entry| entry.split_once('='));
    command.env_clear().envs(environment);
    command.current_dir(bundle).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| error.to_string())?;
    let limit = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
    let limit = limit.map_or(PATIENCE, Duration::from_secs);
    let ended = tokio::time::timeout(limit, to_the_end(child, state)).await;
    let (status, complaint) = match ended {
        Ok(ended) => ended.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("not done after {} s", limit.as_secs())),
    };
    if status.success() {
        return Ok(());
    }
    Err(format!("{status}: {}", complaint.trim().escape_debug()))
}

/// Gives a hook its input and waits for it; how it ended, and what it complained of.
async fn to_the_end(mut child: Child, state: &[u8]) -> io::Result<(ExitStatus, String)> {
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that does not read its state closes this.
        let _ = stdin.write_all(state).await;
    }
    let mut complaint = Vec::new();
    let mut stderr = child.stderr.take();
    let status = {
        let listen = async {
            if let Some(stderr) = &mut stderr {
                // What it can't say does not matter: its end is what counts.
                let _ = stderr.take(MAX_COMPLAINT).read_to_end(&mut complaint).await;
                let _ = tokio::io::copy(stderr, &mut tokio::io::sink()).await;
            }
        };
        tokio::pin!(listen);
        tokio::select! {
            () = &mut listen => child.wait().await?,
            status = child.wait() => {
                // A child that it leaves in the background may keep its error output for ever.
                let _ = tokio::time::timeout(LAST_WORDS, listen).await;
                status?
            }
        }
    };
    Ok((status, String::from_utf8_lossy(&complaint).into_owned()))
}

#[cfg(test)]
mod tests;
