//! Which servers are asked for an image, in which order, and how: containerd's `hosts.toml`
//! (its `core/remotes/docker/config` at 301026e58).
//!
//! For a registry `HOST:PORT` the first folder counts that exists below a configured path:
//! `HOST_PORT_`, `HOST:PORT`, `_default`. Its `hosts.toml` names mirrors, which are tried in the
//! file's order, and then the registry's own server. Without that file the folder's certificates
//! count, as Docker lays them out. The files are read again for each pull.
//!
//! Other than containerd:
//! - A file that can't be read as `hosts.toml` is an error. containerd then asks the registry's
//!   own server, past the mirrors.
//! - An unknown key makes a warning with the key that it looks like.
//! - Mirrors also count when they are written as inline tables or with dotted keys.
//! - What the file says of `skip_verify` also counts for a registry on this host.

mod directory;
mod duration;
mod file;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;

use crate::digest::Digest;
use crate::reference::{Object, Reference};

pub use directory::Hosts;
pub use file::HostsFile;

/// Most bytes of a `hosts.toml`.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Most servers that a file may name.
pub const MAX_HOSTS: usize = 64;

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// A file or folder is there but could not be read.
    #[error("reading {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{path}, line {line}: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1 on.
        line: usize,
        /// The parser's words in one line.
        reason: String,
    },
    /// A value that can't be used.
    #[error("{path}: {key}: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Whose value.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No server may do what is wanted.
    #[error("{path} lets no server {purpose} images of {registry}: add it to \"capabilities\"")]
    NoServer {
        /// The file.
        path: PathBuf,
        /// What is wanted: `resolve` or `pull`.
        purpose: &'static str,
        /// Whose images.
        registry: String,
    },
}

/// What a server is trusted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// To give content by its digest.
    pub pull: bool,
    /// To tell which content a tag means.
    pub resolve: bool,
    /// To take content.
    pub push: bool,
    /// To list what refers to content.
    pub referrers: bool,
}

impl Capabilities {
    /// What a server may do of which nothing is said.
    pub const ALL: Self = Self { pull: true, resolve: true, push: true, referrers: true };
}

/// What a server is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The content that a tag means.
    Resolve,
    /// Content by its digest: manifests and blobs.
    Pull,
}

/// How to speak to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Under TLS.
    Https,
    /// In the clear.
    Http,
}

impl Transport {
    /// As URLs name it.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// A client's certificate, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// File of the certificate.
    pub certificate: PathBuf,
    /// File of its key. None: the certificate's file has it too.
    pub key: Option<PathBuf>,
}

/// How a server proves who it is, and the client to the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Files of certificates that count beside the system's, in PEM.
    pub ca: Vec<PathBuf>,
    /// Certificates to show.
    pub client: Vec<ClientCertificate>,
    /// Whether any server is believed.
    pub skip_verify: bool,
}

/// A server to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// How to speak to it. The second way is for a server that does not speak TLS.
    pub transports: Vec<Transport>,
    /// Host, and port if one is written.
    pub host: String,
    /// The path before the repository's name, such as `/v2`. It may be empty.
    pub path: String,
    /// What it is trusted to do.
    pub capabilities: Capabilities,
    /// What counts under TLS.
    pub tls: Tls,
    /// Headers of each request. Their values are not shown by `Debug`.
    pub headers: HeaderMap,
    /// How long a connection may take, if that is said.
    pub dial_timeout: Option<Duration>,
    /// The registry that it stands in for, if it is another one's mirror.
    pub namespace: Option<String>,
}

impl Endpoint {
    /// The address of the manifest that a reference names.
    pub fn manifest(&self, transport: Transport, reference: &Reference) -> String {
        match reference.object() {
            Object::Tag(tag) => self.url(transport, reference, "manifests", tag),
            Object::Digest(digest) => self.url(transport, reference, "manifests", digest.as_str()),
        }
    }

    /// The address of content of the reference's repository.
    pub fn blob(&self, transport: Transport, reference: &Reference, digest: &Digest) -> String {
        self.url(transport, reference, "blobs", digest.as_str())
    }

    /// Whether the server is on this host, by its name or address.
    pub fn is_local(&self) -> bool {
        server::is_local(&self.host)
    }

    fn url(&self, transport: Transport, reference: &Reference, kind: &str, object: &str) -> String {
        let (host, path, repository) = (&self.host, &self.path, reference.path());
        let scheme = transport.scheme();
        let mut url = format!("{scheme}://{host}{path}/{repository}/{kind}/{object}");
        if let Some(namespace) = &self.namespace {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("ns", namespace);
            url += "?";
            url += &query.finish();
        }
        url
    }
}

/// The servers for an image, and what is odd about their configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// In the order in which they are to be tried.
    pub list: Vec<Endpoint>,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests;
