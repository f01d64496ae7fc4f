//! `cuddy rmi`: removes images.

use std::process::ExitCode;

use protocol::cri::{ImageSpec, RemoveImageRequest};

use crate::client::{Client, ClientError, answer};
use crate::output;

/// Remove images with all their names.
#[derive(Debug, clap::Args)]
pub(crate) struct RmiArgs {
    /// Remove them although containers use them: their data is freed with the last of those.
    #[arg(short, long)]
    force: bool,
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl RmiArgs {
    /// Removes them, and prints their ids.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        for text in &self.images {
            let found = client.image(text).await?;
            let none = || ClientError::NotFound(format!("no image {text:?}; `cuddy images` lists"));
            let image = found.ok_or_else(none)?;
            let containers = client.containers().await?;
            let user = containers.iter().find(|one| one.image_id == image.id);
            if let (Some(user), false) = (user, self.force) {
                anyhow::bail!(
                    "image {text:?} is in use by container {}: remove that, or use -f",
                    crate::human::short(&user.id)
                );
            }
            let spec = Some(ImageSpec { image: image.id.clone(), ..ImageSpec::default() });
            let request = RemoveImageRequest { image: spec };
            answer(client.image_service().remove_image(request).await)?;
            output::print(format!("{}\n", image.id).as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
