//! Servers: a server that a file names, and the one that a registry has by default.

use std::net::IpAddr;

use http::Uri;

use super::Transport;
use crate::reference::DEFAULT_DOMAIN;
use crate::text::quoted;

/// The server of names without a registry.
const DEFAULT_SERVER: &str = "registry-1.docker.io";

/// The path that the distribution specification gives all registries.
const API: &str = "/v2";

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) transport: Transport,
    pub(super) host: String,
    pub(super) path: String,
}

impl Server {
    /// Reads a server's URL, whose scheme may be left out. `whole_path`: its path is that of the
    /// API already.
    pub(super) fn parse(text: &str, whole_path: bool) -> Result<Self, String> {
        let with_scheme =
            if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: Uri =
            with_scheme.parse().map_err(|error| format!("{} is no URL: {error}", quoted(text)))?;
        let transport = match uri.scheme_str() {
            Some("https") => Transport::Https,
            Some("http") => Transport::Http,
            _ => return Err(format!("{} is neither https:// nor http://", quoted(text))),
        };
        let host = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        if host.contains('@') {
            return Err("a URL here can't have a user: credentials are not configured here".into());
        }
        if host.is_empty() || host.ends_with(':') {
            return Err(format!("{} has no host, or no port after the colon", quoted(text)));
        }
        if uri.query().is_some() {
            return Err(format!("{} has a query, which a server can't have", quoted(text)));
        }
        let path = clean(uri.path());
        let complete = whole_path || path == API || path.ends_with("/v2");
        let path = if complete { path } else { path + API };
        Ok(Self { transport, host: host.to_owned(), path })
    }

    /// A registry's own server. containerd speaks to registries on the same host without TLS
    /// where their port leaves that open.
    pub(super) fn of(registry: &str) -> Self {
        let clear = is_local(registry) && !matches!(port(registry), "" | "443");
        let host = if registry == DEFAULT_DOMAIN { DEFAULT_SERVER } else { registry };
        let transport = if clear { Transport::Http } else { Transport::Https };
        Self { transport, host: host.to_owned(), path: API.to_owned() }
    }

    /// How to speak to it. Where TLS is configured it is tried first, unless the port says that
    /// there is none.
    pub(super) fn transports(&self, tls_is_configured: bool) -> Vec<Transport> {
        match self.transport {
            Transport::Http if tls_is_configured && port(&self.host) != "80" => {
                vec![Transport::Https, Transport::Http]
            }
            only => vec![only],
        }
    }

    /// The registry that the server has to be told of, if it is not the server's own.
    pub(super) fn namespace(&self, registry: &str) -> Option<String> {
        let own =
            self.host == registry || registry == DEFAULT_DOMAIN && self.host == DEFAULT_SERVER;
        (!own).then(|| registry.to_owned())
    }
}

/// Whether a registry on the same host is believed without a proof: containerd's rule.
pub(super) fn is_believed(registry: &str) -> bool {
    is_local(registry) && port(registry) != "80"
}

/// Whether a host is this one, by its name or address.
pub(super) fn is_local(registry: &str) -> bool {
    let (host, _) = split(registry);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// The port that is written, if one is.
fn port(host: &str) -> &str {
    split(host).1
}

fn split(host: &str) -> (&str, &str) {
    host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).unwrap_or((host, ""))
}

/// The path without empty parts, `.` and `..`, and without a slash at its end.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.iter().flat_map(|part| ["/", part]).collect()
}
