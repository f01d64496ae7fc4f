//! The text of a `hosts.toml`.

mod reader;

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderMap;
use reader::Reader;
use toml::Table;

use super::server::{Server, is_believed};
use super::{Capabilities, ClientCertificate, Endpoint, HostsError, MAX_HOSTS, Tls};
use crate::text::line;

/// Most characters of the parser's words.
const MAX_WORDS: usize = 200;

/// A file's servers in its order. The last one is the registry's own, or stands in for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostsFile {
    pub(super) servers: Vec<Settings>,
    /// What the file says that nothing reads, in sentences for the log.
    pub warnings: Vec<String>,
}

/// What a file says about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// None: the registry's own.
    pub(super) server: Option<Server>,
    pub(super) capabilities: Capabilities,
    pub(super) ca: Vec<PathBuf>,
    pub(super) client: Vec<ClientCertificate>,
    pub(super) skip_verify: Option<bool>,
    pub(super) headers: HeaderMap,
    pub(super) dial_timeout: Option<Duration>,
}

impl Settings {
    /// Those of a registry of which nothing is said.
    pub(super) fn of_nothing() -> Self {
        Self {
            server: None,
            capabilities: Capabilities::ALL,
            ca: Vec::new(),
            client: Vec::new(),
            skip_verify: None,
            headers: HeaderMap::new(),
            dial_timeout: None,
        }
    }

    /// The server as it is asked for images of a registry.
    fn endpoint(self, registry: &str) -> Endpoint {
        // As with containerd, a registry's own server may do all, whatever the file says.
        let (server, capabilities, believed) = match self.server {
            Some(server) => (server, self.capabilities, false),
            None => (Server::of(registry), Capabilities::ALL, is_believed(registry)),
        };
        let said = !self.ca.is_empty() || !self.client.is_empty() || self.skip_verify.is_some();
        let skip_verify = self.skip_verify.unwrap_or(believed);
        Endpoint {
            transports: server.transports(said || believed),
            namespace: server.namespace(registry),
            host: server.host,
            path: server.path,
            capabilities,
            tls: Tls { ca: self.ca, client: self.client, skip_verify },
            headers: self.headers,
            dial_timeout: self.dial_timeout,
        }
    }
}

impl HostsFile {
    /// That of a registry of which nothing is said.
    pub(super) fn of_nothing() -> Self {
        Self { servers: vec![Settings::of_nothing()], warnings: Vec::new() }
    }

    /// Parses the text of the file at `path`, to whose folder other files' paths are relative.
    ///
    /// # Errors
    /// [`HostsError`] names the file, the key and what is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, HostsError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            HostsError::Syntax {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                reason: line(error.message(), MAX_WORDS),
            }
        })?;
        let mut reader = Reader::new(path);
        let mut servers = Vec::new();
        if let Some(hosts) = table.get("host") {
            let hosts = hosts.as_table().ok_or_else(|| {
                reader.refuse("", "host", "write tables such as [host.\"https://mirror.example\"]")
            })?;
            if hosts.len() > MAX_HOSTS {
                let reason = format!("at most {MAX_HOSTS} are possible");
                return Err(reader.refuse("", "host", &reason));
            }
            for (name, host) in hosts {
                servers.push(reader.host(name, host)?);
            }
        }
        let server =
            table.get("server").map(|server| reader.text("", "server", server)).transpose()?;
        servers.push(reader.settings("", server.filter(|server| !server.is_empty()), &table)?);
        Ok(Self { servers, warnings: reader.warnings })
    }

    /// The servers as they are asked for images of a registry, in the file's order.
    pub fn endpoints(self, registry: &str) -> Vec<Endpoint> {
        self.servers.into_iter().map(|server| server.endpoint(registry)).collect()
    }
}
