//! `cuddy pull`: brings images here.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::client::{Client, ClientError};
use crate::output;

/// Pull images from their registries.
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// Their names.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,
}

impl PullArgs {
    /// Pulls them one after the other, and prints their ids.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        for image in &self.images {
            let id = pull(client, image, self.quiet).await?;
            output::print(format!("{id}\n").as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Pulls an image; its id. A terminal on standard error shows meanwhile that it goes on.
///
/// # Errors
/// [`ClientError::Refused`].
pub(crate) async fn pull(client: &Client, image: &str, quiet: bool) -> Result<String, ClientError> {
    let bar = match quiet {
        true => ProgressBar::hidden(),
        // It shows nothing where there is no terminal.
        false => ProgressBar::new_spinner(),
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} pulling {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_message(image.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    let pulled = client.pull(image).await;
    bar.finish_and_clear();
    pulled
}
