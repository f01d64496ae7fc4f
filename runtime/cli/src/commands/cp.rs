//! `cuddy cp`: copies files into a container or out of it, by `tar` in there.

mod archive;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use protocol::cri::ExecRequest;
use tokio::io::AsyncWrite;
use tokio_util::io::SyncIoBridge;

use crate::client::{Client, answer};
use crate::session::{End, Ends, Input, Outcome, Session};

/// Bytes that wait between an archive and the daemon.
const PIPE: usize = 64 << 10;

/// Copy files into a container that runs, or out of it. The container must have `tar`.
#[derive(Debug, clap::Args)]
pub(crate) struct CpArgs {
    /// A path here, or CONTAINER:PATH.
    from: String,
    /// A directory here, or CONTAINER:DIRECTORY.
    to: String,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Here(PathBuf),
    There(String, String),
}

/// What a side is (pure): a colon before any slash ends a container's name.
fn side(text: &str) -> Side {
    match text.split_once(':') {
        Some((name, path)) if !name.is_empty() && !name.contains('/') => {
            Side::There(name.to_owned(), path.to_owned())
        }
        _ => Side::Here(text.into()),
    }
}

impl CpArgs {
    /// Copies.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        match (side(&self.from), side(&self.to)) {
            (Side::Here(from), Side::There(name, to)) => upload(client, &from, &name, to).await?,
            (Side::There(name, from), Side::Here(to)) => {
                download(client, &name, &from, &to).await?
            }
            _ => bail!("one of the two must be CONTAINER:PATH, and the other a path here"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn upload(client: &Client, from: &Path, name: &str, to: String) -> anyhow::Result<()> {
    let from = from.canonicalize().with_context(|| format!("copying {}", from.display()))?;
    let (reader, writer) = std::io::pipe()?;
    let packed = tokio::task::spawn_blocking(move || archive::pack(&from, writer));
    let to = if to.is_empty() { "/".to_owned() } else { to };
    let command = vec!["tar".into(), "-x".into(), "-f".into(), "-".into(), "-C".into(), to];
    let input = Some(Input::of(reader));
    let ended = exec(client, name, command, input, tokio::io::sink()).await;
    // It says better what happened; the other only that nobody reads.
    ended?;
    packed.await?
}

async fn download(client: &Client, name: &str, from: &str, to: &Path) -> anyhow::Result<()> {
    let path = Path::new(from);
    let last = path.file_name().and_then(|last| last.to_str());
    let directory = path.parent().and_then(Path::to_str).unwrap_or("/");
    let directory = if directory.is_empty() { "/" } else { directory };
    let last = last.with_context(|| format!("{from:?} ends with no name"))?;
    let command = ["tar", "-c", "-f", "-", "-C", directory, "--", last];
    let command = command.iter().map(|&word| word.to_owned()).collect();
    let (writer, reader) = tokio::io::duplex(PIPE);
    let (reader, to) = (SyncIoBridge::new(reader), to.to_owned());
    let unpacked = tokio::task::spawn_blocking(move || archive::unpack(reader, &to));
    let ended = exec(client, name, command, None, writer).await;
    let unpacked = unpacked.await?;
    ended.and(unpacked)
}

/// Runs a command in a container; fails unless it succeeds.
async fn exec(
    client: &Client,
    name: &str,
    cmd: Vec<String>,
    input: Option<Input>,
    output: impl AsyncWrite + Unpin,
) -> anyhow::Result<()> {
    let container_id = client.container(name).await?.id;
    let stdin = input.is_some();
    let request = ExecRequest { container_id, cmd, tty: false, stdin, stdout: true, stderr: true };
    let url = answer(client.runtime().exec(request).await)?.url;
    let session = Session::connect(client, &url).await?;
    let mut errors = Vec::new();
    let end = session.carry(Ends { input, output, errors: &mut errors, tty: false }).await?;
    let errors = String::from_utf8_lossy(&errors);
    match end {
        End::Told(Outcome::Exited(0)) => Ok(()),
        End::Told(Outcome::Failed(text)) => bail!("tar in container {name:?}: {text}"),
        _ => bail!("tar in container {name:?}: {}", errors.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colon_before_a_slash_ends_a_name() {
        let there = |name: &str, path: &str| Side::There(name.to_owned(), path.to_owned());
        assert_eq!(side("web:/etc/x"), there("web", "/etc/x"));
        assert_eq!(side("web:x:y"), there("web", "x:y"));
        for here in ["./a:b", "/a", "a", ":a"] {
            assert_eq!(side(here), Side::Here(here.into()));
        }
    }
}
