//! `cuddy save`: an archive of images.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::ValueEnum;
use protocol::node::{self, SaveRequest, SavedImage};
use rustix::termios::isatty;

use crate::client::{Client, answer};
use crate::output;

/// Save images to an archive.
///
/// Layers are kept without their archives, which are made again. So an image has another id where
/// it is loaded, and the same files.
#[derive(Debug, clap::Args)]
pub(crate) struct SaveArgs {
    /// The file to write [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What the archive looks like.
    #[arg(long, value_enum, default_value_t = Format::Docker)]
    format: Format,
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// What an archive looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An OCI image layout, with the `manifest.json` that Docker reads.
    Docker,
    /// An OCI image layout.
    Oci,
}

impl SaveArgs {
    /// Saves them. Prints old and new ids, unless the archive goes there.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let format = match self.format {
            Format::Docker => node::Format::Docker,
            Format::Oci => node::Format::Oci,
        };
        let request = SaveRequest { images: self.images, format: format.into() };
        let Some(path) = self.output else {
            let stdout = io::stdout();
            if isatty(&stdout) {
                bail!("standard output is a terminal: name a file with -o, or redirect it");
            }
            save(client, request, stdout.lock()).await?;
            return Ok(ExitCode::SUCCESS);
        };
        let doing = || format!("writing {}", path.display());
        let file = std::fs::File::create(&path).with_context(doing)?;
        let regular = file.metadata().is_ok_and(|facts| facts.is_file());
        let saved = save(client, request, &file).await.with_context(doing);
        if saved.is_err() && regular {
            // Half an archive is of no use.
            let _ = std::fs::remove_file(&path);
        }
        let lines: String = saved?.iter().map(line).collect();
        output::print(lines.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn save(
    client: &Client,
    request: SaveRequest,
    mut out: impl Write,
) -> anyhow::Result<Vec<SavedImage>> {
    let mut pieces = answer(client.node().save(request).await)?;
    let mut images = Vec::new();
    while let Some(message) = pieces.message().await.map_err(crate::client::ClientError::from)? {
        out.write_all(&message.piece)?;
        images = message.images;
    }
    if images.is_empty() {
        bail!("the archive has no end");
    }
    out.flush()?;
    Ok(images)
}

/// What is printed of an image (pure).
fn line(image: &SavedImage) -> String {
    let SavedImage { source, id, names } = image;
    let names = names.join(" ");
    let named = if names.is_empty() { String::new() } else { format!("{names}  ") };
    match source == id {
        true => format!("{named}{id}\n"),
        false => format!("{named}{source} is {id} in the archive\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_id_is_told() {
        let names = vec!["a:1".to_owned()];
        let image = SavedImage { source: "s1".into(), id: "s2".into(), names };
        assert_eq!(line(&image), "a:1  s1 is s2 in the archive\n");
        let same = SavedImage { id: "s1".into(), names: Vec::new(), ..image };
        assert_eq!(line(&same), "s1\n");
    }
}
