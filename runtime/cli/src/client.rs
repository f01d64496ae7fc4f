//! The client of the container runtime interface, over a Unix socket.

mod find;

/// The generated clients.
#[allow(
    missing_docs,
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unreachable_pub,
    reason = "generated code"
)]
mod generated {
    tonic::include_proto!("runtime.v1");

    /// Our daemon's own service.
    pub(crate) mod node {
        tonic::include_proto!("cuddy.node.v1");
    }
}

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use generated::image_service_client::ImageServiceClient;
use generated::node::node_client::NodeClient;
use generated::runtime_service_client::RuntimeServiceClient;
use protocol::cri::{
    Container, ContainerStatus, ContainerStatusRequest, Image, ImageSpec, ListContainersRequest,
    ListImagesRequest, ListPodSandboxRequest, PodSandbox, PullImageRequest, StatusRequest,
};
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// Where `cuddyd` serves, unless its settings say otherwise.
pub(crate) const SOCKET: &str = "/run/cuddy/cri.sock";

/// Label of containers and pods that `cuddy run` made: their name.
pub(crate) const NAME: &str = "cuddy.name";

/// Most bytes of a message, as the daemon has it.
const MESSAGE: usize = 16 << 20;

/// Why a call was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody serves on the socket.
    #[error("no daemon serves on {address}: {reason}{}", advice(Path::new("/")))]
    NoDaemon {
        /// The socket.
        address: PathBuf,
        /// What the kernel said.
        reason: std::io::Error,
    },
    /// The socket is not for this user.
    #[error("{} is not for this user: use sudo, or {}", .0.display(), way_in(.0))]
    NotAllowed(PathBuf),
    /// The path can't be a socket's.
    #[error("{0:?} can't be the address of a daemon: {1}")]
    Address(PathBuf, String),
    /// The daemon refused.
    #[error("{text}")]
    Refused {
        /// Its code.
        code: Code,
        /// Its words.
        text: String,
    },
    /// No container, pod or image is named so.
    #[error("{0}")]
    NotFound(String),
    /// Several are.
    #[error("{text:?} begins the ids of several: {ids}", ids = .ids.join(", "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// What it may mean.
        ids: Vec<String>,
    },
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Refused { code: status.code(), text: status.message().to_owned() }
    }
}

/// How the daemon is started, below `root`: by systemd where it knows it.
fn advice(root: &Path) -> &'static str {
    const UNITS: [&str; 4] = [
        "etc/systemd/system",
        "run/systemd/system",
        "usr/lib/systemd/system",
        "lib/systemd/system",
    ];
    let is_installed = UNITS.iter().any(|units| root.join(units).join("cuddyd.service").exists());
    match is_installed {
        true => "; start it: systemctl start cuddyd",
        false => "; start cuddyd",
    }
}

/// How a user comes to be allowed to use a socket.
fn way_in(socket: &Path) -> &'static str {
    let mode = std::fs::metadata(socket).map_or(0, |socket| socket.permissions().mode());
    match mode & 0o020 {
        0 => {
            "make the group (groupadd --system cuddy), start cuddyd again, and join it \
             (usermod -aG cuddy USER)"
        }
        _ => "join the group cuddy (usermod -aG cuddy USER), and log in again",
    }
}

/// A connection to the daemon; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
}

/// What was answered, without what is around it.
pub(crate) fn answer<T>(answer: Result<Response<T>, Status>) -> Result<T, ClientError> {
    Ok(answer?.into_inner())
}

impl Client {
    /// Connects to the daemon at `address`.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`], [`ClientError::NotAllowed`], [`ClientError::Address`].
    pub(crate) async fn connect(address: &Path) -> Result<Self, ClientError> {
        if let Err(reason) = UnixStream::connect(address).await {
            return Err(match reason.kind() {
                std::io::ErrorKind::PermissionDenied => ClientError::NotAllowed(address.into()),
                _ => ClientError::NoDaemon { address: address.into(), reason },
            });
        }
        let wrong = |problem: String| ClientError::Address(address.into(), problem);
        let text = address.to_str().ok_or_else(|| wrong("not UTF-8".into()))?;
        let endpoint = Endpoint::from_shared(format!("unix://{text}"));
        let channel = endpoint.map_err(|error| wrong(error.to_string()))?.connect_lazy();
        Ok(Self { channel })
    }

    /// The runtime service.
    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        let client = RuntimeServiceClient::new(self.channel.clone());
        client.max_decoding_message_size(MESSAGE).max_encoding_message_size(MESSAGE)
    }

    /// The image service.
    pub(crate) fn image_service(&self) -> ImageServiceClient<Channel> {
        let client = ImageServiceClient::new(self.channel.clone());
        client.max_decoding_message_size(MESSAGE).max_encoding_message_size(MESSAGE)
    }

    /// Our daemon's own service. Other daemons answer that they don't know it.
    pub(crate) fn node(&self) -> NodeClient<Channel> {
        let client = NodeClient::new(self.channel.clone());
        client.max_decoding_message_size(MESSAGE).max_encoding_message_size(MESSAGE)
    }

    /// All containers, the newest first.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub(crate) async fn containers(&self) -> Result<Vec<Container>, ClientError> {
        let listed = self.runtime().list_containers(ListContainersRequest::default()).await;
        Ok(answer(listed)?.containers)
    }

    /// All pods, the newest first.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub(crate) async fn pods(&self) -> Result<Vec<PodSandbox>, ClientError> {
        let listed = self.runtime().list_pod_sandbox(ListPodSandboxRequest::default()).await;
        Ok(answer(listed)?.items)
    }

    /// All images.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub(crate) async fn images(&self) -> Result<Vec<Image>, ClientError> {
        let listed = self.image_service().list_images(ListImagesRequest::default()).await;
        Ok(answer(listed)?.images)
    }

    /// A container as it is now, and more of it for people.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub(crate) async fn status(&self, id: &str) -> Result<(ContainerStatus, Value), ClientError> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let answer = answer(self.runtime().container_status(request).await)?;
        let info = answer.info.get("info").and_then(|text| serde_json::from_str(text).ok());
        Ok((answer.status.unwrap_or_default(), info.unwrap_or_default()))
    }

    /// Brings an image here; its id.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub(crate) async fn pull(&self, image: &str) -> Result<String, ClientError> {
        let image = Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() });
        let request = PullImageRequest { image, ..PullImageRequest::default() };
        Ok(answer(self.image_service().pull_image(request).await)?.image_ref)
    }

    /// Where the daemon streams to clients on this node; none if it is not `cuddyd`.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub(crate) async fn stream_socket(&self) -> Result<Option<PathBuf>, ClientError> {
        let status = self.runtime().status(StatusRequest { verbose: true }).await;
        let info = answer(status)?.info;
        let config: Option<Value> =
            info.get("config").and_then(|text| serde_json::from_str(text).ok());
        let state = config.as_ref().and_then(|config| config["state"].as_str());
        Ok(state.map(|state| Path::new(state).join("stream.sock")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_named_where_it_knows_the_daemon() {
        let root = tempfile::tempdir().unwrap();
        assert!(!advice(root.path()).contains("systemctl"));
        let units = root.path().join("etc/systemd/system");
        std::fs::create_dir_all(&units).unwrap();
        std::fs::write(units.join("cuddyd.service"), "").unwrap();
        assert!(advice(root.path()).contains("systemctl start cuddyd"));
    }

    #[test]
    fn user_is_told_the_way_that_the_sockets_mode_leaves() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        std::fs::write(&socket, "").unwrap();
        for (mode, way) in [(0o600, "groupadd"), (0o660, "log in again")] {
            std::fs::set_permissions(&socket, PermissionsExt::from_mode(mode)).unwrap();
            let text = ClientError::NotAllowed(socket.clone()).to_string();
            assert!(text.contains("sudo") && text.contains(way), "{text}");
        }
    }
}
