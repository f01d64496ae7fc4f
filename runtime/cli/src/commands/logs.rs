//! `cuddy logs`: what a container has written, read from its log file.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use protocol::cri::ContainerState;

use crate::client::{Client, ClientError};
use crate::log_file::{Changes, LogFile};
use crate::log_record::{self, parse};
use crate::restarts::Restarts;

/// How often the daemon is asked whether a container whose log is followed has ended.
const ASK: Duration = Duration::from_millis(500);

/// Print what a container has written.
#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// Go on until the container ends, and is not to run again.
    #[arg(short, long)]
    follow: bool,
    /// Begin with this many lines from the end.
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
    /// Print when each line was written.
    #[arg(short, long)]
    timestamps: bool,
    /// Its name or id.
    container: String,
}

impl LogsArgs {
    /// Prints them, each stream to its own.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let found = client.container(&self.container).await?;
        let (status, _) = client.status(&found.id).await?;
        if status.log_path.is_empty() {
            bail!("container {:?} has no log: whoever made it asked for none", self.container);
        }
        let path = Path::new(&status.log_path);
        let mut log = LogFile::open(path).with_context(|| format!("log {}", path.display()))?;
        let changes = if self.follow { Some(Changes::of(path)?) } else { None };
        match self.print(client, &found.id, &mut log, changes).await {
            Err(error) if is_unread(&error) => Ok(ExitCode::SUCCESS),
            printed => printed.map(|()| ExitCode::SUCCESS),
        }
    }

    async fn print(
        &self,
        client: &Client,
        id: &str,
        log: &mut LogFile,
        changes: Option<Changes>,
    ) -> anyhow::Result<()> {
        let mut lines = Vec::new();
        loop {
            let more = log.read()?;
            if more.is_empty() {
                break;
            }
            lines.extend(more);
            match self.tail {
                Some(count) => lines = log_record::tail(&lines, count).to_vec(),
                None => self.write(&std::mem::take(&mut lines))?,
            }
        }
        self.write(&lines)?;
        let Some(mut changes) = changes else { return Ok(()) };
        let mut ended = false;
        loop {
            while let more = log.read()?
                && !more.is_empty()
            {
                self.write(&more)?;
            }
            if ended {
                return Ok(());
            }
            tokio::select! {
                changed = changes.next() => changed?,
                () = tokio::time::sleep(ASK) => ended = has_ended(client, id).await?,
            }
        }
    }

    fn write(&self, lines: &[Vec<u8>]) -> io::Result<()> {
        let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
        for record in lines.iter().filter_map(|line| parse(line)) {
            let to: &mut dyn Write = if record.is_error { &mut stderr } else { &mut stdout };
            if self.timestamps {
                to.write_all(record.time)?;
                to.write_all(b" ")?;
            }
            to.write_all(record.text)?;
            if record.is_end {
                to.write_all(b"\n")?;
            }
        }
        stdout.flush()
    }
}

async fn has_ended(client: &Client, id: &str) -> Result<bool, ClientError> {
    match client.status(id).await {
        Ok((status, info)) => {
            let has_ended = status.state() == ContainerState::ContainerExited;
            Ok(has_ended && Restarts::read(&info).at.is_none())
        }
        Err(ClientError::Refused { code: tonic::Code::NotFound, .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether nobody reads what is printed any more.
fn is_unread(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
