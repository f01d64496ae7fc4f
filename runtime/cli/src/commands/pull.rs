//! `cuddy pull`: brings images here.

use std::process::ExitCode;

use protocol::node::{PullRequest, PullResponse};
use tonic::Code;

use crate::bars::Bars;
use crate::client::{Client, ClientError, answer};
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

/// Pulls an image; its id. A terminal on standard error shows meanwhile how far each layer is.
///
/// # Errors
/// [`ClientError::Refused`].
pub(crate) async fn pull(client: &Client, image: &str, quiet: bool) -> Result<String, ClientError> {
    let mut bars = Bars::new(image, quiet);
    let pulled = match watched(client, image, &mut bars).await {
        // It is another daemon than ours.
        Err(ClientError::Refused { code: Code::Unimplemented, .. }) => client.pull(image).await,
        pulled => pulled,
    };
    bars.end();
    pulled
}

/// Pulls by our daemon's own service, which tells how far it is.
async fn watched(client: &Client, image: &str, bars: &mut Bars) -> Result<String, ClientError> {
    let request = PullRequest { image: image.to_owned() };
    let mut messages = answer(client.node().pull(request).await)?;
    while let Some(PullResponse { layers, id }) = messages.message().await? {
        bars.show(&layers);
        if !id.is_empty() {
            return Ok(id);
        }
    }
    let text = format!("pulling {image:?}: the daemon said no end");
    Err(ClientError::Refused { code: Code::Unknown, text })
}
