//! ListImages and StreamImages: the images that are here.

use std::sync::Arc;

use protocol::cri::{
    Image, ImageFilter, ListImagesRequest, ListImagesResponse, StreamImagesRequest,
    StreamImagesResponse,
};
use tonic::Request;

use super::image_status::described;
use super::pages::{Pages, pages};
use crate::fault::Fault;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<ListImagesRequest>,
) -> Result<ListImagesResponse, Fault> {
    Ok(ListImagesResponse { images: list(pods, request.get_ref().filter.as_ref()) })
}

pub(super) async fn stream(
    pods: &Arc<Pods>,
    request: Request<StreamImagesRequest>,
) -> Result<Pages<StreamImagesResponse>, Fault> {
    let items = list(pods, request.get_ref().filter.as_ref());
    Ok(pages(items, |images| StreamImagesResponse { images }))
}

fn list(pods: &Arc<Pods>, filter: Option<&ImageFilter>) -> Vec<Image> {
    let wanted = filter.and_then(|filter| filter.image.as_ref()).map(|spec| spec.image.as_str());
    let wanted = wanted.filter(|text| !text.is_empty());
    pods.node.images.store.view().list(wanted).iter().map(|image| described(image)).collect()
}
