//! The service of images: which file answers which call.

use protocol::cri::{
    ImageFsInfoRequest, ImageFsInfoResponse, ImageStatusRequest, ImageStatusResponse,
    ListImagesRequest, ListImagesResponse, PullImageRequest, PullImageResponse, RemoveImageRequest,
    RemoveImageResponse, StreamImagesRequest, StreamImagesResponse,
};
use tonic::{Request, async_trait};

use super::pages::Pages;
use super::{Answer, Services, answer};
use super::{image_fs_info, image_status, list_images, pull_image, remove_image};
use crate::generated::cri::image_service_server::ImageService;

#[async_trait]
impl ImageService for Services {
    async fn list_images(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        answer(list_images::run(&self.pods, request)).await
    }

    type StreamImagesStream = Pages<StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<StreamImagesRequest>,
    ) -> Answer<Self::StreamImagesStream> {
        answer(list_images::stream(&self.pods, request)).await
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Answer<ImageStatusResponse> {
        answer(image_status::run(&self.pods, request)).await
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        answer(pull_image::run(&self.pods, request)).await
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Answer<RemoveImageResponse> {
        answer(remove_image::run(&self.pods, request)).await
    }

    async fn image_fs_info(
        &self,
        request: Request<ImageFsInfoRequest>,
    ) -> Answer<ImageFsInfoResponse> {
        answer(image_fs_info::run(&self.pods, request)).await
    }
}
