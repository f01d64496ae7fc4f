//! ImageStatus: an image that is here, or nothing.

use std::collections::HashMap;
use std::sync::Arc;

use image::store;
use protocol::cri::{Image, ImageSpec, ImageStatusRequest, ImageStatusResponse, Int64Value};
use serde_json::Value;
use tonic::Request;

use super::there;
use crate::fault::Fault;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<ImageStatusRequest>,
) -> Result<ImageStatusResponse, Fault> {
    let ImageStatusRequest { image, verbose } = request.into_inner();
    let text = image.unwrap_or_default().image;
    let Some(image) = there(pods.node.images.find(&text))? else {
        return Ok(ImageStatusResponse::default());
    };
    let info = if verbose { info(pods, &image).await? } else { HashMap::new() };
    Ok(ImageStatusResponse { image: Some(described(&image)), info })
}

/// An image in the interface's words (pure).
pub(super) fn described(image: &store::Image) -> Image {
    let names =
        |names: &[image::reference::Reference]| names.iter().map(ToString::to_string).collect();
    let id = image.id.to_string();
    let user = image.user.split(':').next().unwrap_or_default();
    let number = user.parse().ok().map(|value| Int64Value { value });
    Image {
        spec: Some(ImageSpec { image: id.clone(), image_ref: id.clone(), ..ImageSpec::default() }),
        id,
        repo_tags: names(&image.tags),
        repo_digests: names(&image.digests),
        size: image.size.max(1),
        username: if number.is_some() { String::new() } else { user.to_owned() },
        uid: number,
        pinned: image.pinned,
    }
}

/// More of it, for people (`crictl inspecti`).
async fn info(pods: &Pods, image: &store::Image) -> Result<HashMap<String, String>, Fault> {
    let bytes = pods.node.images.config(&image.id).await?;
    let spec: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let info = serde_json::json!({ "imageSpec": spec });
    Ok([("info".to_owned(), info.to_string())].into())
}
