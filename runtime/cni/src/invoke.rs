//! One execution of a plugin: its program, environment, input, output and end. It is killed, with
//! all that it started, when it takes too long, writes too much, or nobody waits for it any more.

mod answer;
mod process;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::error::Error;
use crate::text::{quoted, said};
use crate::verb::Verb;

pub(crate) use answer::Answer;
#[cfg(fuzzing)]
pub(crate) use answer::parse;
use process::{End, Running};

/// Most bytes of what a plugin reads and of what it answers.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;

/// How often a program is executed again that is being replaced (`ETXTBSY`), and after what time.
const BUSY_RETRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// Where plugins are, and how long each may take.
#[derive(Debug, Clone)]
pub struct Plugins {
    path: Vec<PathBuf>,
    limit: Duration,
}

/// One thing that one plugin shall do.
pub(crate) struct Call<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) verb: Verb,
    pub(crate) input: Vec<u8>,
    /// Variables beside `CNI_COMMAND` and `CNI_PATH`.
    pub(crate) environment: Vec<(&'static str, OsString)>,
}

impl Plugins {
    /// Plugins of these directories, the first ones first. Each execution may take `limit`.
    pub fn new(path: Vec<PathBuf>, limit: Duration) -> Self {
        Self { path, limit }
    }

    /// The same, with at most so much time for each execution.
    pub(crate) fn within(&self, limit: Duration) -> Self {
        Self { path: self.path.clone(), limit: self.limit.min(limit) }
    }

    /// The program of a plugin: the first regular file of that name.
    ///
    /// # Errors
    /// [`Error::Missing`] with all directories.
    pub(crate) fn find(&self, plugin: &str) -> Result<PathBuf, Error> {
        let places = self.path.iter().map(|directory| directory.join(plugin));
        let is_file = |place: &PathBuf| place.metadata().is_ok_and(|data| data.is_file());
        places
            .into_iter()
            .find(is_file)
            .ok_or_else(|| Error::Missing { plugin: quoted(plugin), searched: self.path.clone() })
    }

    /// Executes a plugin; what it answered.
    ///
    /// # Errors
    /// Those with a plugin's name. A plugin that had not ended is killed, with what it started.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Answer, Error> {
        let path = self.find(call.plugin)?;
        let (plugin, verb) = (call.plugin, call.verb);
        if call.input.len() > MAX_MESSAGE {
            let problem =
                format!("it would be {} bytes, more than {MAX_MESSAGE}", call.input.len());
            return Err(Error::Argument { what: "what a CNI plugin is told", problem });
        }
        let failed = |source| Error::Start { path: path.clone(), verb, source };
        let child = spawn(|| self.command(&path, &call)).await.map_err(failed)?;
        let mut running = Running::new(child);
        match running.talk(&call.input, self.limit).await {
            Ok(End::Status(status)) => {
                answer::interpret(plugin, verb, &status, &running.output, &running.errors)
            }
            Ok(End::Late) => Err(Error::Deadline {
                plugin: quoted(plugin),
                verb,
                limit: self.limit,
                said: said(&running.errors),
            }),
            Ok(End::TooLong) => {
                let problem = format!("it has more than {MAX_MESSAGE} bytes");
                Err(Error::answer(plugin, verb, problem))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn command(&self, path: &Path, call: &Call<'_>) -> Command {
        let mut command = Command::new(path);
        for (name, _) in std::env::vars_os() {
            if is_ours_alone(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        let separated = self.path.iter().map(|path| path.as_os_str()).collect::<Vec<_>>();
        command.env("CNI_COMMAND", call.verb.command());
        if call.verb != Verb::Version {
            command.env("CNI_PATH", separated.join(":".as_ref()));
        }
        command.envs(call.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Variables of this process that say nothing to a plugin: an outer runtime's, and what the service
/// manager gave to this process only.
fn is_ours_alone(name: &str) -> bool {
    ["CNI_", "LISTEN_"].iter().any(|prefix| name.starts_with(prefix))
        || ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"].contains(&name)
}

/// Installers write plugins in place, so that a program can be busy for a moment.
async fn spawn(command: impl Fn() -> Command) -> io::Result<Child> {
    let mut tries = 0;
    loop {
        match process::start(command()) {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_RETRIES =>
            {
                tries += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            started => return started,
        }
    }
}
