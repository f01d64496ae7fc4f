//! PullImage: brings an image here. Two who want the same one wait for the same pull.

use std::sync::Arc;

use image::credentials::AuthConfig;
use image::pull::PullError;
use image::reference::Reference;
use image::secret::Secret;
use protocol::cri::{self, PullImageRequest, PullImageResponse};
use tonic::Request;

use crate::fault::Fault;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<PullImageRequest>,
) -> Result<PullImageResponse, Fault> {
    let PullImageRequest { image, auth, .. } = request.into_inner();
    let text = image.unwrap_or_default().image;
    let reference = text.parse::<Reference>().map_err(|error| {
        Fault::InvalidArgument(format!("image {:?}: {error}", api::text::printable(&text, 200)))
    })?;
    let image = pods.node.images.puller.pull(&reference, auth.map(sent)).await.map_err(fault)?;
    Ok(PullImageResponse { image_ref: image.id.to_string() })
}

/// The credentials of the request.
fn sent(auth: cri::AuthConfig) -> AuthConfig {
    let cri::AuthConfig {
        username,
        password,
        auth,
        server_address,
        identity_token,
        registry_token,
    } = auth;
    AuthConfig {
        username,
        password: Secret::new(password),
        auth: Secret::new(auth),
        server_address,
        identity_token: Secret::new(identity_token),
        registry_token: Secret::new(registry_token),
    }
}

/// The kubelet looks for the first word of what it is answered.
fn fault(error: PullError) -> Fault {
    let text = error.to_string();
    match error.is_unavailable() {
        true => Fault::Unknown(format!("RegistryUnavailable: {text}")),
        false => Fault::Unknown(text),
    }
}
