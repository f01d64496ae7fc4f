//! Registries: what they have is asked for by HTTP (OCI distribution specification v1.1).
//!
//! A [`Registry`] is for one pull. It reads the node's configuration, asks the servers in their
//! order, and proves who asks where a server wants that. All content is checked against its digest.
//!
//! ```text
//! Registry ── image() ──► index ──► manifest ──► configuration
//!          └─ blob() ───► a layer's bytes: broken? the rest from the same server, then the next
//! ```
//! | answer of a server | what follows |
//! |---|---|
//! | 401, or 403 to a token | one task gets a new token, all that wait use it |
//! | 404, 5xx, 429, no answer, wrong content | the next server; then those again that may do better |
//! | a blob's bytes end too early | `Range` from where they ended |
//!
//! Everything ends when the future or stream is dropped.

pub mod answer;
mod blob;
mod chain;
mod checked;
mod document;
mod fault;
mod host;
mod pass;
mod patience;
mod resolver;
mod tls;
mod wire;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::TryStreamExt as _;

use crate::credentials::{AuthConfig, CredentialsError, DockerConfig, Found};
use crate::digest::Digest;
use crate::hosts::{Endpoints, Hosts, HostsError, Purpose};
use crate::manifest::{Blob, ImageConfig, MAX_CONFIG_BYTES, Manifest, ManifestError, Platform};
use crate::reference::{Object, Reference};
use chain::{Chain, Step};
use host::Host;
use resolver::Configured;
use tls::Authorities;

pub use blob::BlobStream;
pub use checked::{Checked, Untrue};
pub use document::Fetched;
pub use fault::{Class, Failures, Fault};
pub use patience::Patience;

/// An image that a registry did not give.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The node's configuration of registries can't be used.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// The image can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// No server gave it.
    #[error("{what}: {failures}")]
    Servers {
        /// What was asked for: an image's name, or a digest.
        what: String,
        /// Each server's own failure.
        failures: Failures,
    },
    /// The bytes of a blob that were given out before are not its content.
    #[error("{0}")]
    Content(crate::digest::Mismatch),
}

impl RegistryError {
    /// What it means to who wanted the image.
    pub fn class(&self) -> Class {
        match self {
            Self::Servers { failures, .. } => failures.class(),
            Self::Hosts(_) | Self::Manifest(_) | Self::Content(_) => Class::Invalid,
        }
    }

    /// Whether the registry can't be reached or is in trouble, so that asking later may help.
    pub fn is_unavailable(&self) -> bool {
        self.class() == Class::Unavailable
    }
}

/// Whose credentials are shown to servers that want some.
#[derive(Debug, Clone, Default)]
pub enum Login {
    /// Nobody's.
    #[default]
    Nobody,
    /// Those that came with the pull.
    Sent(AuthConfig),
    /// The node's own.
    Node(DockerConfig),
}

impl Login {
    /// The credentials for a server's repository.
    async fn find(
        &self,
        server: &str,
        repository: &str,
        deadline: std::time::Duration,
    ) -> Result<Found, CredentialsError> {
        match self {
            Self::Nobody => Ok(Found::default()),
            Self::Sent(auth) => {
                Ok(Found { credentials: auth.for_server(server)?, failures: Vec::new() })
            }
            Self::Node(config) => config.find(server, repository, deadline).await,
        }
    }
}

/// What is the same for all that a pull asks for.
#[derive(Debug)]
struct Pull {
    reference: Reference,
    login: Login,
    patience: Patience,
    hosts: Vec<Arc<Host>>,
}

impl Pull {
    /// The servers that may do that, the most promising ones first. Among equals the order of the
    /// configuration counts.
    fn candidates(&self, resolve: bool) -> Vec<Arc<Host>> {
        let may = |host: &&Arc<Host>| !resolve || host.endpoint().capabilities.resolve;
        let mut hosts: Vec<_> = self.hosts.iter().filter(may).cloned().collect();
        hosts.sort_by_key(|host| host.doubtful.load(Ordering::Relaxed));
        hosts
    }
}

/// One pull's way to the servers that may have its image. Clones share tokens and connections.
#[derive(Debug, Clone)]
pub struct Registry {
    pull: Arc<Pull>,
    warnings: Arc<[String]>,
}

/// An image with all that its layers need to be used.
#[derive(Debug, Clone)]
pub struct Image {
    /// What the reference means: the digest of the first document.
    pub digest: Digest,
    /// All documents on the way: indexes, and last the manifest.
    pub documents: Vec<Fetched>,
    /// The image's manifest.
    pub manifest: Manifest,
    /// The text of the configuration.
    pub config_text: Bytes,
    /// The configuration.
    pub config: ImageConfig,
}

impl Registry {
    /// Reads the node's files of the reference's registry. Nothing is asked yet.
    ///
    /// # Errors
    /// [`RegistryError::Hosts`].
    pub async fn open(
        reference: Reference,
        hosts: &Hosts,
        login: Login,
        patience: Patience,
    ) -> Result<Self, RegistryError> {
        let hosts = hosts.clone();
        let read = move || Self::read(reference, &hosts, login, patience);
        tokio::task::spawn_blocking(read).await.map_err(|error| HostsError::Read {
            path: "hosts.toml".into(),
            source: std::io::Error::other(error),
        })?
    }

    /// The same, on a thread that may wait. No file is needed from then on.
    ///
    /// # Errors
    /// [`RegistryError::Hosts`].
    pub fn read(
        reference: Reference,
        hosts: &Hosts,
        login: Login,
        patience: Patience,
    ) -> Result<Self, RegistryError> {
        let Endpoints { list, warnings } = endpoints(hosts, &reference)?;
        let (names, authorities) = (Configured::read(), Authorities::default());
        let host = |endpoint| Arc::new(Host::new(endpoint, &names, &authorities));
        let hosts = list.into_iter().map(host).collect();
        let pull = Pull { reference, login, patience, hosts };
        Ok(Self { pull: Arc::new(pull), warnings: warnings.into() })
    }

    /// What is odd about the configuration, in sentences for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The reference whose image is pulled.
    pub fn reference(&self) -> &Reference {
        &self.pull.reference
    }

    /// The image that the reference names, for a platform. Layers are not fetched.
    ///
    /// # Errors
    /// [`RegistryError`]. [`ManifestError::NoPlatform`] if it is for other platforms.
    pub async fn image(&self, platform: &Platform) -> Result<Image, RegistryError> {
        let mut document = document::fetch(&self.pull, &self.pull.reference, None).await?;
        let digest = document.digest.clone();
        let (mut documents, mut chain) = (Vec::new(), Chain::new(platform));
        let manifest = loop {
            let step = chain.take(document.document.clone())?;
            documents.push(document);
            match step {
                Step::Manifest(manifest) => break manifest,
                Step::Next(blob) => {
                    let next = self.pull.reference.with_digest(blob.digest);
                    document = document::fetch(&self.pull, &next, Some(blob.size)).await?;
                }
            }
        };
        let config_text = self.content(&manifest.config).await?;
        let config = chain.end(&manifest, &config_text)?;
        Ok(Image { digest, documents, manifest, config_text, config })
    }

    /// One document: what the reference means, or the document of that digest in its repository.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn document(&self, object: &Object) -> Result<Fetched, RegistryError> {
        let reference = match object {
            Object::Digest(digest) => self.pull.reference.with_digest(digest.clone()),
            Object::Tag(_) => self.pull.reference.clone(),
        };
        document::fetch(&self.pull, &reference, None).await
    }

    /// A small blob as a whole: the image's configuration.
    ///
    /// # Errors
    /// [`RegistryError`]; [`ManifestError::TooLarge`] for one of more than 4 MiB.
    pub async fn content(&self, blob: &Blob) -> Result<Bytes, RegistryError> {
        let (size, limit) = (blob.size, MAX_CONFIG_BYTES);
        if size > limit {
            return Err(ManifestError::TooLarge { what: "configuration", size, limit }.into());
        }
        let mut bytes = Vec::new();
        let mut stream = self.blob(blob);
        while let Some(chunk) = stream.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    /// A blob's bytes from its start. Nothing is asked before the stream is polled.
    ///
    /// The last bytes come only after the whole was found to be the blob's content. A stream that
    /// fails has given out bytes that nothing is known of. The server that sent other content is
    /// asked last by further streams of this pull.
    ///
    /// An await of the stream's next item that is given up loses nothing. The time between two of
    /// them is the caller's, and not held against a server.
    pub fn blob(&self, blob: &Blob) -> BlobStream {
        blob::stream(self.pull.clone(), blob.clone())
    }
}

/// The servers to ask. A tag that no server may resolve is an error here.
fn endpoints(hosts: &Hosts, reference: &Reference) -> Result<Endpoints, HostsError> {
    hosts.endpoints(reference, Purpose::Resolve)?;
    hosts.endpoints(reference, Purpose::Pull)
}

#[cfg(test)]
pub(crate) mod tests;
