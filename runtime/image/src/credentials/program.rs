//! Programs that know credentials: `docker-credential-NAME` with the argument `get`.
//!
//! The program reads a registry's name and writes JSON (docker/docker-credential-helpers). It is
//! killed, with all that it started, when it takes too long, writes too much, or nobody waits for
//! it any more.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::{Credentials, CredentialsError};
use crate::redact::redact;
use crate::secret::Secret;
use crate::text::{line, place, quoted};

/// Most bytes of an answer.
const MAX_ANSWER: u64 = 64 << 10;

/// Most characters of a program's name.
const MAX_NAME: usize = 64;

/// Most characters of a program's own words.
const MAX_WORDS: usize = 200;

/// A user's name that says that the secret is an identity token.
const TOKEN: &str = "<token>";

/// What programs write if they know no credentials.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// A program that gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("credential helper {program}: {problem}")]
pub struct ProgramError {
    /// The program.
    pub program: String,
    /// What went wrong.
    pub problem: ProgramProblem,
}

/// What went wrong with a program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramProblem {
    /// It can't be executed, or not be spoken to.
    #[error("{0}")]
    Io(std::io::Error),
    /// It was killed.
    #[error("it was killed after {} s without an answer", .0.as_secs_f32())]
    Deadline(Duration),
    /// It was killed.
    #[error("it was killed because it wrote more than {MAX_ANSWER} bytes")]
    TooLong,
    /// It says that it failed.
    #[error("it failed: {0}")]
    Failed(String),
    /// It wrote something else than credentials.
    #[error("its answer is not the JSON that it should be: {0}")]
    Answer(String),
}

/// A program that knows credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(PathBuf);

/// A program's answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: Secret,
    secret: Secret,
}

impl Program {
    /// The program that a `config.json` names so. It is looked for in `PATH`.
    ///
    /// # Errors
    /// [`CredentialsError::Program`] if the name is none, and might lead elsewhere.
    pub fn named(name: &str) -> Result<Self, CredentialsError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
            return Err(CredentialsError::Program(quoted(name)));
        }
        Ok(Self(format!("docker-credential-{name}").into()))
    }

    /// The same program in a folder, instead of in `PATH`.
    pub fn in_folder(&self, folder: &Path) -> Self {
        Self(folder.join(&self.0))
    }

    /// What a program's end and output mean.
    ///
    /// # Errors
    /// [`ProgramProblem::Failed`] and [`ProgramProblem::Answer`].
    pub fn answer(success: bool, output: &[u8]) -> Result<Option<Credentials>, ProgramProblem> {
        if !success {
            let text = String::from_utf8_lossy(output);
            return match text.trim() {
                NOT_FOUND => Ok(None),
                "" => Err(ProgramProblem::Failed("it says nothing".to_owned())),
                words => Err(ProgramProblem::Failed(line(&redact(words), MAX_WORDS))),
            };
        }
        let answer: Answer = serde_json::from_slice(output)
            .map_err(|error| ProgramProblem::Answer(place(&error)))?;
        let user = answer.username.expose();
        if user.contains(':') {
            return Err(ProgramProblem::Answer("the user's name has a colon".to_owned()));
        }
        Ok(Some(match user {
            TOKEN => Credentials::IdentityToken(answer.secret),
            user => Credentials::Password { user: user.to_owned(), password: answer.secret },
        }))
    }

    /// Asks the program for a server's credentials. None: it has none.
    ///
    /// # Errors
    /// [`ProgramError`]. What the program wrote beside an error's text is not repeated.
    pub async fn get(
        &self,
        server: &str,
        deadline: Duration,
    ) -> Result<Option<Credentials>, ProgramError> {
        let answer = match tokio::time::timeout(deadline, run(&self.0, server)).await {
            Ok(Ok((success, output))) => Self::answer(success, output.expose().as_bytes()),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err(ProgramProblem::Deadline(deadline)),
        };
        answer.map_err(|problem| ProgramError { program: self.0.display().to_string(), problem })
    }
}

/// A process that ends with all that it started when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // None once it was waited for: what it left behind then, it left on purpose.
        let pid = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

async fn run(program: &Path, server: &str) -> Result<(bool, Secret), ProgramProblem> {
    let mut command = Command::new(program);
    command.arg("get").process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Killed(command.spawn().map_err(ProgramProblem::Io)?);
    let (input, output) = (child.0.stdin.take(), child.0.stdout.take());
    let ask = async {
        if let Some(mut input) = input {
            // One that needs no input does not read it. Without its answer that is its failure.
            let _ = input.write_all(server.as_bytes()).await;
        }
    };
    let listen = async {
        let mut bytes = Vec::new();
        if let Some(output) = output {
            output.take(MAX_ANSWER + 1).read_to_end(&mut bytes).await?;
        }
        Ok(bytes)
    };
    let ((), bytes) = tokio::join!(ask, listen);
    let bytes = bytes.map_err(ProgramProblem::Io)?;
    let too_long = bytes.len() as u64 > MAX_ANSWER;
    let output = match String::from_utf8(bytes) {
        Ok(text) => Secret::new(text),
        Err(error) => Secret::new(String::from_utf8_lossy(error.as_bytes())),
    };
    if too_long {
        return Err(ProgramProblem::TooLong);
    }
    let status = child.0.wait().await.map_err(ProgramProblem::Io)?;
    Ok((status.success(), output))
}
