//! `cuddy exec`: runs a command in a container.

use std::process::ExitCode;

use anyhow::bail;
use protocol::cri::ExecRequest;

use crate::client::{Client, answer};
use crate::session::{End, Outcome, Session};
use crate::{console, exit, terminal};

/// Run a command in a container that runs.
///
/// Exit status: the command's own; 125 the daemon failed, 126 the command can't be executed, 127
/// it is not there, 128 and its number for a signal.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// The command reads standard input.
    #[arg(short, long)]
    interactive: bool,
    /// The command has a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Name or id.
    container: String,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl ExecArgs {
    /// Runs it.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        if self.interactive && self.tty && !terminal::is_input() {
            bail!("standard input is no terminal: leave out -t");
        }
        let container_id = client.container(&self.container).await?.id;
        let request = ExecRequest {
            container_id,
            cmd: self.command,
            tty: self.tty,
            stdin: self.interactive,
            stdout: true,
            stderr: !self.tty,
        };
        let url = answer(client.runtime().exec(request).await)?.url;
        let session = Session::connect(client, &url).await?;
        match console::carry(session, self.interactive, self.tty).await? {
            End::Detached => Ok(ExitCode::SUCCESS),
            End::Told(Outcome::Exited(code)) => Ok(exit::of_process(code)),
            End::Told(Outcome::Failed(text)) => bail!(text),
        }
    }
}
