//! `-p`: ports of the host that lead to a container.

use std::net::IpAddr;

use protocol::cri::{PortMapping, Protocol};

/// Reads `[ADDRESS:]HOST:CONTAINER[/PROTOCOL]`, with an address of IPv6 in brackets.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn port(text: &str) -> Result<PortMapping, String> {
    let wrong = || format!("{text:?} is no port such as 8080:80, 127.0.0.1:8080:80 or 53:53/udp");
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(format!("{text:?}: a port's protocol is tcp, udp or sctp")),
    };
    let Some((rest, container)) = ports.rsplit_once(':') else {
        number(ports).ok_or_else(wrong)?;
        return Err(format!("{text:?}: say the host's port, too, as in {ports}:{ports}"));
    };
    let (address, host) = rest.rsplit_once(':').map_or((None, rest), |(a, host)| (Some(a), host));
    let host_ip = address.map(|address| {
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        bare.unwrap_or(address).parse::<IpAddr>().map_err(|_| wrong())
    });
    Ok(PortMapping {
        protocol: protocol.into(),
        container_port: number(container).ok_or_else(wrong)?,
        host_port: number(host).ok_or_else(wrong)?,
        host_ip: host_ip.transpose()?.map_or_else(String::new, |address| address.to_string()),
    })
}

fn number(text: &str) -> Option<i32> {
    text.parse::<u16>().ok().filter(|port| *port > 0).map(i32::from)
}

/// How a port is shown, as `0.0.0.0:8080->80/tcp`.
pub(crate) fn shown(port: &PortMapping) -> String {
    let address = match &*port.host_ip {
        "" => "0.0.0.0".to_owned(),
        ip if ip.contains(':') => format!("[{ip}]"),
        ip => ip.to_owned(),
    };
    let protocol = port.protocol().as_str_name().to_lowercase();
    format!("{address}:{}->{}/{protocol}", port.host_port, port.container_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_shown_as_it_was_read() {
        for (text, expected) in [
            ("8080:80", "0.0.0.0:8080->80/tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080->80/tcp"),
            ("[::1]:53:5353/udp", "[::1]:53->5353/udp"),
        ] {
            assert_eq!(shown(&port(text).unwrap()), expected);
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        assert!(port("80").unwrap_err().contains("80:80"));
        for text in ["", "x", "0:80", "80:65536", "80:", ":80", "1.2.3:80:80", "-1:1", "80:80/x"] {
            assert!(port(text).is_err(), "{text}");
        }
    }
}
