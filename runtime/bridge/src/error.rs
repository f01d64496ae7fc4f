//! What can go wrong with the node's own network.

use std::io;
use std::net::IpAddr;

use cni::Protocol;

/// Why a pod is not on the node's own network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused something.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Its answer.
        source: io::Error,
    },
    /// The pod's network namespace.
    #[error("the pod's network namespace")]
    Netns(#[from] network::Error),
    /// All subnets that could be taken have routes.
    #[error("every subnet from 10.88.0.0/16 to 10.127.0.0/16 has a route on this node")]
    NoSubnet,
    /// All addresses are leased.
    #[error("every address of {0} is taken")]
    NoAddress(ipnet::IpNet),
    /// A published port is taken.
    #[error("port {port}/{protocol} of {} is taken by {by}", place(.host_ip))]
    PortTaken {
        /// The node's port.
        port: u16,
        /// What it carries.
        protocol: &'static str,
        /// The node's address; none for all.
        host_ip: Option<IpAddr>,
        /// Whose it is.
        by: String,
    },
    /// A published port can't be made.
    #[error("port {port} can't be published: {problem}")]
    Port {
        /// The node's port.
        port: u16,
        /// Why not.
        problem: &'static str,
    },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }
}

fn place(host_ip: &Option<IpAddr>) -> String {
    host_ip.map_or_else(|| "this node".to_owned(), |address| address.to_string())
}

pub(crate) fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
