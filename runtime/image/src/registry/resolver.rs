//! Addresses of servers, without the C library: as `/etc/hosts` and `/etc/resolv.conf` have them,
//! which are read for each pull.
//!
//! The C library in a static program loads files of the host's one for this, which may be another
//! version. `reqwest` has a resolver like this one, which asks Google's servers where the node
//! names none.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A resolver as the node is configured, or why there is none: that is told with the first name.
#[derive(Clone)]
pub(super) struct Configured(Arc<Result<TokioResolver, String>>);

impl Configured {
    /// Reads the two files.
    pub(super) fn read() -> Self {
        let read = || -> Result<_, NetError> {
            let mut builder = TokioResolver::builder_tokio()?;
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            builder.build()
        };
        Self(Arc::new(read().map_err(|error| error.to_string())))
    }
}

impl std::fmt::Debug for Configured {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Configured")
    }
}

impl Resolve for Configured {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let resolver = resolver.as_ref().as_ref().map_err(Clone::clone)?;
            let found = resolver.lookup_ip(name.as_str()).await?;
            let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
