//! Addresses of servers, without the C library: as `/etc/hosts` and `/etc/resolv.conf` have them,
//! which are read for each pull.
//!
//! The C library in a static program loads files of the host's one for this, which may be another
//! version. `reqwest` has a resolver like this one, which asks Google's servers where the node
//! names none.

use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A resolver as the node is configured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Configured;

impl Resolve for Configured {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let mut builder = TokioResolver::builder_tokio()?;
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            let found = builder.build()?.lookup_ip(name.as_str()).await?;
            let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
