//! `cuddy cp`: copies files into a container or out of it, by `tar` in there.

mod archive;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use protocol::cri::ExecRequest;
use rustix::termios::isatty;
use tokio::io::AsyncWrite;
use tokio_util::io::SyncIoBridge;

use crate::client::{Client, answer};
use crate::session::{End, Ends, Input, Outcome, Session};
use crate::terminal;

/// Bytes that wait between an archive and the daemon.
const PIPE: usize = 64 << 10;

/// What stands for this command's own input and output, which are archives.
const STREAM: &str = "-";

/// Copy files into a container that runs, or out of it. The container must have `tar`.
///
/// Into a directory they are copied by their own name, and else by that of the target. `-` is an
/// archive: of standard input, which is unpacked in a directory, or to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct CpArgs {
    /// A path here, CONTAINER:PATH, or - for an archive.
    from: String,
    /// A path here, CONTAINER:PATH, or - for an archive.
    to: String,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Stream,
    Here(PathBuf),
    There(String, String),
}

/// What a side is (pure): a colon before any slash ends a container's name. Paths in a container
/// begin at its root.
fn side(text: &str) -> Side {
    match text.split_once(':') {
        _ if text == STREAM => Side::Stream,
        Some((name, path)) if !name.is_empty() && !name.contains('/') => {
            let root = if path.starts_with('/') { "" } else { "/" };
            Side::There(name.to_owned(), format!("{root}{path}"))
        }
        _ => Side::Here(text.into()),
    }
}

/// The directory of a path in a container, and its last name (pure); none for the root.
fn parts(path: &str) -> Option<(&str, &str)> {
    let (directory, last) = path.trim_end_matches('/').rsplit_once('/')?;
    let is_name = !["", ".", ".."].contains(&last);
    is_name.then_some((if directory.is_empty() { "/" } else { directory }, last))
}

impl CpArgs {
    /// Copies.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        match (side(&self.from), side(&self.to)) {
            (Side::Here(from), Side::There(name, to)) => {
                Place::of(client, name).await?.upload(&from, &to).await?;
            }
            (Side::There(name, from), Side::Here(to)) => {
                Place::of(client, name).await?.download(&from, &to).await?;
            }
            (Side::Stream, Side::There(..)) if terminal::is_input() => {
                bail!("standard input is a terminal: redirect an archive");
            }
            (Side::Stream, Side::There(name, to)) => {
                Place::of(client, name).await?.unpack(io::stdin(), &to).await?;
            }
            (Side::There(..), Side::Stream) if isatty(io::stdout()) => {
                bail!("standard output is a terminal: redirect it");
            }
            (Side::There(name, from), Side::Stream) => {
                Place::of(client, name).await?.pack(&from, tokio::io::stdout()).await?;
            }
            _ => bail!("one of the two must be CONTAINER:PATH, and the other a path here or -"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What came of a copy (pure). Who packs knows what can't be read, but not why nobody takes the
/// archive any more.
fn both(packed: anyhow::Result<()>, unpacked: anyhow::Result<()>) -> anyhow::Result<()> {
    let is_broken = |error: &anyhow::Error| {
        let mut errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        errors.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    match (packed, unpacked) {
        (Err(packed), Err(unpacked)) if is_broken(&packed) => Err(unpacked),
        (packed, unpacked) => packed.and(unpacked),
    }
}

/// A container to copy into, or from.
struct Place<'a> {
    client: &'a Client,
    name: String,
    id: String,
}

impl<'a> Place<'a> {
    async fn of(client: &'a Client, name: String) -> anyhow::Result<Self> {
        let id = client.container(&name).await?.id;
        Ok(Self { client, name, id })
    }

    async fn upload(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        let doing = || format!("copying {}", from.display());
        let whole = from.canonicalize().with_context(doing)?;
        let own = from.file_name().or_else(|| whole.file_name());
        let own = own.with_context(|| format!("{} has no name", from.display()))?.to_owned();
        let (directory, name) = match parts(to) {
            Some((directory, last)) if !to.ends_with('/') && !self.is_directory(to).await? => {
                (directory, last.into())
            }
            _ => (to, own),
        };
        let (reader, writer) = io::pipe()?;
        let packed = tokio::task::spawn_blocking(move || archive::pack(&whole, &name, writer));
        let unpacked = self.unpack(reader, directory).await;
        both(packed.await?, unpacked)
    }

    async fn download(&self, from: &str, to: &Path) -> anyhow::Result<()> {
        let (writer, reader) = tokio::io::duplex(PIPE);
        let (reader, to) = (SyncIoBridge::new(reader), to.to_owned());
        let unpacked = tokio::task::spawn_blocking(move || match to.is_dir() {
            true => archive::unpack(reader, &to),
            false => archive::unpack_as(reader, &to),
        });
        let packed = self.pack(from, writer).await;
        both(packed, unpacked.await?)
    }

    /// Unpacks an archive in a directory there.
    async fn unpack(
        &self,
        archive: impl Read + Send + 'static,
        directory: &str,
    ) -> anyhow::Result<()> {
        let command = ["tar", "-x", "-f", "-", "-C", directory];
        self.tar(&command, Some(Input::of(archive)), tokio::io::sink()).await
    }

    /// Writes what is there as an archive.
    async fn pack(&self, from: &str, output: impl AsyncWrite + Unpin) -> anyhow::Result<()> {
        let (directory, last) =
            parts(from).with_context(|| format!("{from:?} ends with no name"))?;
        let command = ["tar", "-c", "-f", "-", "-C", directory, "--", last];
        self.tar(&command, None, output).await
    }

    /// Whether there is such a directory. Where nothing can tell, there is.
    async fn is_directory(&self, path: &str) -> anyhow::Result<bool> {
        let (outcome, _) = self.exec(&["test", "-d", path], None, tokio::io::sink()).await?;
        Ok(outcome != Outcome::Exited(1))
    }

    /// Runs `tar`; fails unless it succeeds.
    async fn tar(
        &self,
        command: &[&str],
        input: Option<Input>,
        output: impl AsyncWrite + Unpin,
    ) -> anyhow::Result<()> {
        let name = &self.name;
        match self.exec(command, input, output).await? {
            (Outcome::Exited(0), _) => Ok(()),
            (Outcome::Failed(text), _) => bail!("tar in container {name:?}: {text}"),
            (Outcome::Exited(_), errors) => bail!("tar in container {name:?}: {errors}"),
        }
    }

    /// Runs a command there; how it ended, and what it complained of.
    async fn exec(
        &self,
        command: &[&str],
        input: Option<Input>,
        output: impl AsyncWrite + Unpin,
    ) -> anyhow::Result<(Outcome, String)> {
        let request = ExecRequest {
            container_id: self.id.clone(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            tty: false,
            stdin: input.is_some(),
            stdout: true,
            stderr: true,
        };
        let url = answer(self.client.runtime().exec(request).await)?.url;
        let session = Session::connect(self.client, &url).await?;
        let mut errors = Vec::new();
        let ends = Ends { input, output, errors: &mut errors, tty: false };
        match session.carry(ends).await? {
            End::Told(outcome) => {
                Ok((outcome, String::from_utf8_lossy(&errors).trim_end().to_owned()))
            }
            End::Detached => bail!("the daemon let go of a command in container {:?}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colon_before_a_slash_ends_a_name() {
        let there = |name: &str, path: &str| Side::There(name.to_owned(), path.to_owned());
        assert_eq!(side("web:/etc/x"), there("web", "/etc/x"));
        assert_eq!(side("web:x:y"), there("web", "/x:y"));
        assert_eq!(side("web:"), there("web", "/"));
        assert_eq!(side("-"), Side::Stream);
        for here in ["./a:b", "/a", "a", ":a", "./-"] {
            assert_eq!(side(here), Side::Here(here.into()));
        }
    }

    #[test]
    fn who_stopped_a_copy_says_why() {
        let broken = || Err(io::Error::from(io::ErrorKind::BrokenPipe)).context("packing x");
        let failed = |text: &'static str| Err(anyhow::anyhow!(text));
        let said = |packed, unpacked| both(packed, unpacked).unwrap_err().to_string();
        assert_eq!(said(broken(), failed("full")), "full");
        assert_eq!(said(failed("secret"), failed("short")), "secret");
        assert_eq!(said(Ok(()), failed("full")), "full");
        assert_eq!(said(broken(), Ok(())), "packing x");
        both(Ok(()), Ok(())).unwrap();
    }

    #[test]
    fn path_there_has_a_directory_and_a_last_name() {
        assert_eq!(parts("/etc/x"), Some(("/etc", "x")));
        assert_eq!(parts("/etc/"), Some(("/", "etc")));
        for path in ["/", "", "/etc/..", "/.", "//"] {
            assert_eq!(parts(path), None, "{path}");
        }
    }
}
