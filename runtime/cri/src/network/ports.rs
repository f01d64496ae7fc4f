//! The ports of the node that a pod asks for (pure).

use cni::{PortMapping, Protocol};
use protocol::cri::PodSandboxConfig;

use crate::fault::Fault;

/// A pod's published ports. One without a port of the node is none.
///
/// # Errors
/// [`Fault::InvalidArgument`] for what is no port and no address: it must not be published
/// elsewhere than it was asked for.
pub(super) fn ports(config: &PodSandboxConfig) -> Result<Vec<PortMapping>, Fault> {
    let published = config.port_mappings.iter().filter(|mapping| mapping.host_port != 0);
    published.map(port).collect()
}

fn port(mapping: &protocol::cri::PortMapping) -> Result<PortMapping, Fault> {
    let number = |port: i32| {
        let number = u16::try_from(port).ok().filter(|number| *number > 0);
        number.ok_or_else(|| Fault::InvalidArgument(format!("a published port: {port} is none")))
    };
    let protocol = match mapping.protocol() {
        protocol::cri::Protocol::Tcp => Protocol::Tcp,
        protocol::cri::Protocol::Udp => Protocol::Udp,
        protocol::cri::Protocol::Sctp => Protocol::Sctp,
    };
    let host_ip = match mapping.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            let text = api::text::printable(text, 80);
            let port = mapping.host_port;
            Fault::InvalidArgument(format!("published port {port}: {text:?} is no address"))
        })?),
    };
    let (host_port, container_port) = (number(mapping.host_port)?, number(mapping.container_port)?);
    Ok(PortMapping { host_port, container_port, protocol, host_ip })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(host_port: i32, container_port: i32, host_ip: &str) -> PodSandboxConfig {
        let mapping = protocol::cri::PortMapping {
            protocol: protocol::cri::Protocol::Udp.into(),
            container_port,
            host_port,
            host_ip: host_ip.to_owned(),
        };
        PodSandboxConfig { port_mappings: vec![mapping], ..PodSandboxConfig::default() }
    }

    #[test]
    fn port_is_published_where_it_was_asked_for_or_not_at_all() {
        let all = ports(&config(53, 5353, "127.0.0.1")).unwrap();
        assert_eq!((all[0].host_port, all[0].protocol), (53, Protocol::Udp));
        assert_eq!(all[0].host_ip.unwrap().to_string(), "127.0.0.1");
        assert_eq!(ports(&config(53, 5353, "")).unwrap()[0].host_ip, None);
        assert!(ports(&config(0, 80, "")).unwrap().is_empty());
        for (host, container, ip) in [(53, 53, "localhost"), (65_536, 80, ""), (80, 0, "")] {
            let fault = ports(&config(host, container, ip)).unwrap_err();
            assert!(matches!(fault, Fault::InvalidArgument(_)), "{fault}");
        }
    }
}
