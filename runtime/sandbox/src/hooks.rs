//! `hooks` of a configuration whose place is the host (config.md, "POSIX-platform Hooks"):
//! prestart, createRuntime, poststart and poststop run beside the shim with the container's state
//! on their standard input. The process id in it is the machine's, as everywhere on the host. The
//! kinds that belong into the container are run by the agent.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use api::Error;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Longest time for a hook that states none. Without it one that hangs would hang the sandbox.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of a hook's error output that are kept for the message.
const MAX_COMPLAINT: u64 = 1024;

/// Time that the error output of a hook that has ended has to arrive.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The hooks of a container that run on the host, and what they are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    lists: Lists,
    id: String,
    bundle: PathBuf,
    annotations: Value,
}

/// `hooks`, without the kinds that run in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Lists {
    #[serde(deserialize_with = "null_is_none")]
    prestart: Vec<Hook>,
    #[serde(deserialize_with = "null_is_none")]
    create_runtime: Vec<Hook>,
    #[serde(deserialize_with = "null_is_none")]
    poststart: Vec<Hook>,
    #[serde(deserialize_with = "null_is_none")]
    poststop: Vec<Hook>,
}

/// One program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Hook {
    path: PathBuf,
    #[serde(deserialize_with = "null_is_none")]
    args: Vec<String>,
    #[serde(deserialize_with = "null_is_none")]
    env: Vec<String>,
    /// Seconds.
    timeout: Option<u64>,
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

fn null_is_none<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

impl Hooks {
    /// Reads the configuration of container `id` in `bundle`; nothing if no hook is for the host.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a hook of the host has no absolute path, or a time limit of zero.
    pub fn from_spec(spec: &Value, id: &str, bundle: &Path) -> Result<Option<Self>, Error> {
        let given = spec.get("hooks").filter(|hooks| !hooks.is_null());
        let Some(given) = given else { return Ok(None) };
        let lists = Lists::deserialize(given)
            .map_err(|error| Error::Invalid(format!("hooks of config.json: {error}")))?;
        let Lists { prestart, create_runtime, poststart, poststop } = &lists;
        for hook in [prestart, create_runtime, poststart, poststop].into_iter().flatten() {
            let path = &hook.path;
            if !path.is_absolute() {
                return Err(Error::Invalid(format!("hook {path:?}: the path is not absolute")));
            }
            if hook.timeout == Some(0) {
                return Err(Error::Invalid(format!("hook {path:?}: a timeout of 0")));
            }
        }
        if lists == Lists::default() {
            return Ok(None);
        }
        let annotations = spec.get("annotations").cloned().unwrap_or_default();
        Ok(Some(Self { lists, id: id.to_owned(), bundle: bundle.to_owned(), annotations }))
    }

    /// Runs the hooks of a moment in their order, each to its end. `pid` is the machine's process.
    ///
    /// # Errors
    /// [`Error::Failed`] with the hook, why, and what it said; later hooks are not run then. What
    /// poststop hooks do is only logged, and all of them are run.
    pub async fn run(&self, moment: Moment, pid: u32) -> Result<(), Error> {
        let Lists { prestart, create_runtime, poststart, poststop } = &self.lists;
        let (first, then, status): (_, &[Hook], _) = match moment {
            Moment::Create => (prestart, create_runtime, "creating"),
            Moment::Started => (poststart, &[], "running"),
            Moment::Stopped => (poststop, &[], "stopped"),
        };
        let state = self.state(status, pid);
        for hook in first.iter().chain(then) {
            let failed = match hook.run(&self.bundle, state.as_bytes()).await {
                Ok(()) => continue,
                Err(reason) => format!("hook {:?} ({status}): {reason}", hook.path),
            };
            if moment != Moment::Stopped {
                return Err(Error::Failed(failed));
            }
            log::warn!("container {}: {failed}", self.id);
        }
        Ok(())
    }

    /// The container's state as hooks are told it (runtime.md, "State").
    fn state(&self, status: &str, pid: u32) -> String {
        let mut state = json!({
            "ociVersion": "1.2.0",
            "id": self.id,
            "status": status,
            "bundle": self.bundle,
            "annotations": self.annotations,
        });
        if status != "stopped" {
            state["pid"] = pid.into();
        }
        state.to_string()
    }
}

impl Hook {
    async fn run(&self, bundle: &Path, state: &[u8]) -> Result<(), String> {
        let mut command = Command::new(&self.path);
        if let Some((name, arguments)) = self.args.split_first() {
            command.arg0(name).args(arguments);
        }
        command.env_clear().envs(self.env.iter().filter_map(|entry| entry.split_once('=')));
        command.current_dir(bundle).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| error.to_string())?;
        let limit = self.timeout.map_or(PATIENCE, Duration::from_secs);
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
