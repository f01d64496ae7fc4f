//! RemoveImage: an image with all its names. What no container uses is freed before the answer. An
//! image that is not here has been removed.

use std::sync::Arc;

use protocol::cri::{RemoveImageRequest, RemoveImageResponse};
use tonic::Request;

use super::there;
use crate::fault::{Fault, blocking};
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<RemoveImageRequest>,
) -> Result<RemoveImageResponse, Fault> {
    let text = request.into_inner().image.unwrap_or_default().image;
    let Some(image) = there(pods.node.images.find(&text))? else {
        return Ok(RemoveImageResponse {});
    };
    let (store, id) = (pods.node.images.store.clone(), image.id.clone());
    match blocking("removing an image", move || store.remove(&id)).await? {
        Err(error) if error.is_not_found() => {}
        removed => drop(removed?),
    }
    Ok(RemoveImageResponse {})
}
