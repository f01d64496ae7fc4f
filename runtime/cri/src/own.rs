//! Our own service beside the container runtime interface (`cuddy.node.v1`): what our command line
//! asks for and that interface has no call for. A call a file.

mod load;
mod prune;
mod pull;
mod save;

use std::sync::Arc;

use protocol::node::{
    Image, LoadRequest, LoadResponse, PruneRequest, PruneResponse, PullRequest, PullResponse,
    SaveRequest, SaveResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::generated::node::node_server::Node;
use crate::pods::Pods;

/// Messages that are made while they are sent.
type Messages<T> = ReceiverStream<Result<T, Status>>;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct OwnService {
    pods: Arc<Pods>,
}

impl OwnService {
    /// The service of these pods' node.
    pub(crate) fn new(pods: &Arc<Pods>) -> Self {
        Self { pods: Arc::clone(pods) }
    }
}

#[async_trait]
impl Node for OwnService {
    async fn load(
        &self,
        request: Request<Streaming<LoadRequest>>,
    ) -> Result<Response<LoadResponse>, Status> {
        Ok(Response::new(load::run(&self.pods, request.into_inner()).await?))
    }

    type SaveStream = Messages<SaveResponse>;

    async fn save(
        &self,
        request: Request<SaveRequest>,
    ) -> Result<Response<Self::SaveStream>, Status> {
        Ok(Response::new(save::run(&self.pods, request.into_inner())?))
    }

    async fn prune(
        &self,
        request: Request<PruneRequest>,
    ) -> Result<Response<PruneResponse>, Status> {
        Ok(Response::new(prune::run(&self.pods, request.into_inner()).await?))
    }

    type PullStream = Messages<PullResponse>;

    async fn pull(
        &self,
        request: Request<PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        Ok(Response::new(pull::run(&self.pods, request.into_inner())?))
    }
}

/// An image in the service's words.
fn told(image: &image::store::Image) -> Image {
    Image {
        id: image.id.to_string(),
        names: image.tags.iter().map(ToString::to_string).collect(),
        size: image.size,
    }
}
