//! `cuddy load`: images out of an archive.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use protocol::node::{Image, LoadRequest};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use crate::client::{Client, answer};
use crate::{output, terminal};

/// Bytes of a piece of the archive.
const PIECE: usize = 256 << 10;

/// Pieces that wait for the daemon.
const WAITING: usize = 4;

/// Load images from an archive: of `cuddy save`, `docker save`, or an OCI layout.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// The archive, which may be compressed by gzip or Zstandard [default: standard input].
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print ids only.
    #[arg(short, long)]
    quiet: bool,
}

impl LoadArgs {
    /// Loads them, and prints what they are called.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let images = match &self.input {
            Some(path) => {
                let opened = tokio::fs::File::open(path).await;
                let file = opened.with_context(|| format!("opening {}", path.display()))?;
                load(client, file).await
            }
            None if terminal::is_input() => {
                bail!("standard input is a terminal: name an archive with -i, or redirect one")
            }
            None => load(client, tokio::io::stdin()).await,
        }?;
        let lines: String = images.iter().flat_map(|image| lines(image, self.quiet)).collect();
        output::print(lines.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn load(client: &Client, input: impl AsyncRead + Unpin) -> anyhow::Result<Vec<Image>> {
    // The stream ends with its last sender. It must not end when the archive can't be read: the
    // daemon would take a part for the whole. So this one lasts longer than the call.
    let (sender, receiver) = mpsc::channel(WAITING);
    let pieces = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let mut node = client.node();
    let mut call = std::pin::pin!(node.load(pieces));
    let answered = tokio::select! {
        // The daemon has had enough.
        answered = &mut call => answered,
        read = read(input, sender.clone()) => {
            read?;
            drop(sender);
            call.await
        }
    };
    Ok(answer(answered)?.images)
}

/// Sends what is read, to its end.
async fn read(
    mut input: impl AsyncRead + Unpin,
    sender: mpsc::Sender<LoadRequest>,
) -> anyhow::Result<()> {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let count = input.read_buf(&mut piece).await.context("reading the archive")?;
        if count == 0 {
            return Ok(());
        }
        if sender.send(LoadRequest { piece }).await.is_err() {
            // The call has ended, and says why.
            return std::future::pending().await;
        }
    }
}

/// What is printed of an image (pure).
fn lines(image: &Image, quiet: bool) -> Vec<String> {
    if quiet || image.names.is_empty() {
        return vec![format!("{}\n", image.id)];
    }
    image.names.iter().map(|name| format!("{name}  {}\n", image.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_is_told_by_its_names_and_its_id() {
        let image =
            Image { id: "sha256:1".into(), names: vec!["a:1".into(), "b:2".into()], size: 0 };
        assert_eq!(lines(&image, false), ["a:1  sha256:1\n", "b:2  sha256:1\n"]);
        assert_eq!(lines(&image, true), ["sha256:1\n"]);
        assert_eq!(lines(&Image { names: Vec::new(), ..image }, false), ["sha256:1\n"]);
    }

    async fn taken(receiver: &mut mpsc::Receiver<LoadRequest>) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        while let Some(LoadRequest { piece }) = receiver.recv().await {
            pieces.push(piece);
        }
        pieces
    }

    #[tokio::test]
    async fn archive_is_sent_whole_and_in_order() {
        let archive: Vec<u8> = (0..600_000_u32).flat_map(u32::to_le_bytes).collect();
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let reading = read(&*archive, sender);
        let (read, pieces) = tokio::join!(reading, taken(&mut receiver));
        read.unwrap();
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= 2 * PIECE));
        assert_eq!(pieces.concat(), archive);
    }
}
