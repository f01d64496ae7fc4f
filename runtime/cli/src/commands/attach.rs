//! `cuddy attach`: this terminal becomes that of a container.

use std::process::ExitCode;

use anyhow::bail;
use protocol::cri::{AttachRequest, ContainerState};

use crate::client::{Client, answer};
use crate::restarts::Restarts;
use crate::session::{End, Outcome, Session};
use crate::{console, exit};

/// Attach to a container. Ctrl-P Ctrl-Q leaves one with a terminal alone again.
///
/// Exit status: the container's own.
#[derive(Debug, clap::Args)]
pub(crate) struct AttachArgs {
    /// Send it no input.
    #[arg(long)]
    no_stdin: bool,
    /// Name or id.
    container: String,
}

impl AttachArgs {
    /// Carries its streams to its end.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let id = client.container(&self.container).await?.id;
        let (status, info) = client.status(&id).await?;
        if status.state() != ContainerState::ContainerRunning {
            bail!("container {:?} does not run", self.container);
        }
        let tty = info["runtimeSpec"]["process"]["terminal"].as_bool().unwrap_or_default();
        let session = attach(client, &id, !self.no_stdin, tty).await?;
        finish(client, &id, session, (!self.no_stdin, tty)).await
    }
}

/// A session with the streams of a container's own process.
///
/// # Errors
/// What the daemon said.
pub(crate) async fn attach(
    client: &Client,
    id: &str,
    stdin: bool,
    tty: bool,
) -> anyhow::Result<Session> {
    let container_id = id.to_owned();
    let request = AttachRequest { container_id, stdin, tty, stdout: true, stderr: !tty };
    let url = answer(client.runtime().attach(request).await)?.url;
    Session::connect(client, &url).await
}

/// Carries the streams to the end; the container's exit code, if it has ended.
///
/// # Errors
/// What the daemon said.
pub(crate) async fn finish(
    client: &Client,
    id: &str,
    session: Session,
    (stdin, tty): (bool, bool),
) -> anyhow::Result<ExitCode> {
    match console::carry(session, stdin, tty).await? {
        End::Detached => Ok(ExitCode::SUCCESS),
        End::Told(Outcome::Failed(text)) => bail!(text),
        End::Told(Outcome::Exited(_)) => {
            let (status, info) = client.status(id).await?;
            match status.state() {
                ContainerState::ContainerExited => Ok(exit::of_process(status.exit_code)),
                _ if Restarts::read(&info).count > 0 => {
                    bail!("the process has ended, and was started again: attach anew")
                }
                _ => bail!("the daemon let go of the container, which goes on"),
            }
        }
    }
}
