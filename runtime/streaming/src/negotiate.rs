//! Which protocol a client and this server have in common, by the request's headers.
//!
//! The answers are those of `k8s.io/streaming`. A request that upgrades to nothing known gets 400.
//! One that has no version in common gets 403, with a list of those that are known.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, StatusCode};

use crate::websocket::Coding;

/// The header that lists sub-protocols of SPDY, and has the chosen one in the answer.
pub(crate) const VERSION: &str = "x-stream-protocol-version";
/// The header of a refusal, with what the server knows.
pub(crate) const ACCEPTED: &str = "x-accepted-stream-protocol-versions";
/// The value of `Upgrade` for SPDY.
pub(crate) const SPDY: &str = "SPDY/3.1";

/// Versions of exec and attach.
const REMOTE_COMMAND: [(&str, Version); 4] = [
    ("v4.channel.k8s.io", Version::V4),
    ("v3.channel.k8s.io", Version::V3),
    ("v2.channel.k8s.io", Version::V2),
    ("channel.k8s.io", Version::V1),
];
const PORT_FORWARD: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// A version of exec and attach, by what it added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// The input's server half is closed from the start.
    V1,
    /// Half-close of input.
    V2,
    /// Sizes of the terminal.
    V3,
    /// The status as JSON.
    V4,
}

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// SPDY, straight.
    Spdy(Version),
    /// Channels over a WebSocket.
    Channels(Version, Coding),
    /// SPDY over a WebSocket.
    Tunnel,
}

/// What was agreed: the protocol, and its name for the answer, if the client gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) carried: Carried,
    pub(crate) name: Option<&'static str>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    /// Sub-protocols that the server knows, for the answer.
    pub(crate) known: Vec<&'static str>,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    RemoteCommand,
    PortForward,
}

/// Words of a header that may come several times and be a list.
fn words<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect()
}

fn bad(text: String) -> Refused {
    Refused { status: StatusCode::BAD_REQUEST, text, known: Vec::new() }
}

fn nothing_in_common(client: &[&str], known: Vec<&'static str>) -> Refused {
    let text = format!(
        "unable to upgrade: unable to negotiate protocol: client supports {client:?}, server \
         accepts {known:?}"
    );
    Refused { status: StatusCode::FORBIDDEN, text, known }
}

/// Agrees on a protocol, by a request's headers.
pub(crate) fn agree(headers: &HeaderMap, purpose: Purpose) -> Result<Agreed, Refused> {
    let upgrade = words(headers, UPGRADE.as_str());
    let upgrades =
        words(headers, CONNECTION.as_str()).iter().any(|word| word.eq_ignore_ascii_case("upgrade"));
    let to = |name: &str| upgrades && upgrade.iter().any(|word| word.eq_ignore_ascii_case(name));
    if to("websocket") {
        websocket(headers, purpose)
    } else if to(SPDY) {
        spdy(headers, purpose)
    } else {
        Err(bad(format!("unable to upgrade: missing upgrade to {SPDY} or websocket in request")))
    }
}

fn spdy(headers: &HeaderMap, purpose: Purpose) -> Result<Agreed, Refused> {
    let offered = words(headers, VERSION);
    if offered.is_empty() {
        return Err(bad(format!("unable to upgrade: no protocol in header {VERSION}")));
    }
    let known: &[(&'static str, Version)] = match purpose {
        Purpose::RemoteCommand => &REMOTE_COMMAND,
        Purpose::PortForward => &[(PORT_FORWARD, Version::V4)],
    };
    let find = |offer: &&str| known.iter().find(|(name, _)| name == offer);
    match offered.iter().find_map(find) {
        Some((name, version)) => Ok(Agreed { carried: Carried::Spdy(*version), name: Some(*name) }),
        None => Err(nothing_in_common(&offered, known.iter().map(|(name, _)| *name).collect())),
    }
}

fn websocket(headers: &HeaderMap, purpose: Purpose) -> Result<Agreed, Refused> {
    let offered = words(headers, "sec-websocket-protocol");
    let channels = |version, base64, close| Carried::Channels(version, Coding { base64, close });
    let known = [
        ("v5.channel.k8s.io", channels(Version::V4, false, true)),
        ("v4.channel.k8s.io", channels(Version::V4, false, false)),
        ("v4.base64.channel.k8s.io", channels(Version::V4, true, false)),
        // Before version 4 those of WebSockets had sizes of the terminal already.
        ("channel.k8s.io", channels(Version::V3, false, false)),
        ("base64.channel.k8s.io", channels(Version::V3, true, false)),
        (TUNNEL, Carried::Tunnel),
    ];
    let known = match purpose {
        Purpose::RemoteCommand => vec![known[0], known[1], known[2], known[3], known[4]],
        Purpose::PortForward => vec![known[1], known[2], known[5]],
    };
    if offered.is_empty() {
        return Ok(Agreed { carried: channels(Version::V3, false, false), name: None });
    }
    let find = |offer: &&str| known.iter().find(|(name, _)| name == offer);
    match offered.iter().find_map(find) {
        Some((name, carried)) => Ok(Agreed { carried: *carried, name: Some(*name) }),
        None => Err(nothing_in_common(&offered, known.iter().map(|(name, _)| *name).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn refused(list: &[(&'static str, &'static str)], purpose: Purpose) -> (u16, usize) {
        let refused = agree(&headers(list), purpose).unwrap_err();
        (refused.status.as_u16(), refused.known.len())
    }

    const TO_SPDY: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    const TO_SOCKET: [(&str, &str); 2] =
        [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];

    fn with<'a>(
        first: [(&'a str, &'a str); 2],
        then: &[(&'a str, &'a str)],
    ) -> Vec<(&'a str, &'a str)> {
        [&first[..], then].concat()
    }

    #[test]
    fn client_chooses_the_version_of_spdy() {
        let offers =
            [(VERSION, "v5.channel.k8s.io"), (VERSION, "v3.channel.k8s.io, v4.channel.k8s.io")];
        let agreed = agree(&headers(&with(TO_SPDY, &offers)), Purpose::RemoteCommand).unwrap();
        let v3 = Agreed { carried: Carried::Spdy(Version::V3), name: Some("v3.channel.k8s.io") };
        assert_eq!(agreed, v3);
        let unknown = with(TO_SPDY, &[(VERSION, "v9.channel.k8s.io")]);
        assert_eq!(refused(&unknown, Purpose::RemoteCommand), (403, 4));
        assert_eq!(refused(&unknown, Purpose::PortForward), (403, 1));
        assert_eq!(refused(&TO_SPDY, Purpose::PortForward), (400, 0));
        assert_eq!(refused(&with(TO_SPDY, &[(VERSION, " ,")]), Purpose::PortForward), (400, 0));
    }

    #[test]
    fn client_chooses_the_version_of_channels() {
        let agree = |offer: &'static str, purpose| {
            let offer = ("sec-websocket-protocol", offer);
            agree(&headers(&with(TO_SOCKET, &[offer])), purpose).map(|agreed| agreed.carried)
        };
        let channels =
            |version, base64, close| Carried::Channels(version, Coding { base64, close });
        let cases = [
            ("v5.channel.k8s.io", channels(Version::V4, false, true)),
            ("v9.x, v4.channel.k8s.io", channels(Version::V4, false, false)),
            ("v4.base64.channel.k8s.io", channels(Version::V4, true, false)),
            ("channel.k8s.io", channels(Version::V3, false, false)),
            ("base64.channel.k8s.io", channels(Version::V3, true, false)),
        ];
        for (offer, carried) in cases {
            assert_eq!(agree(offer, Purpose::RemoteCommand), Ok(carried), "{offer}");
        }
        assert_eq!(agree(TUNNEL, Purpose::PortForward), Ok(Carried::Tunnel));
        assert!(agree(TUNNEL, Purpose::RemoteCommand).is_err());
        assert!(agree("v5.channel.k8s.io", Purpose::PortForward).is_err());
    }

    #[test]
    fn request_without_an_upgrade_is_refused() {
        assert_eq!(refused(&[], Purpose::RemoteCommand), (400, 0));
        assert_eq!(refused(&[("upgrade", "websocket")], Purpose::RemoteCommand), (400, 0));
        let other = [("connection", "upgrade"), ("upgrade", "h2c")];
        assert_eq!(refused(&other, Purpose::RemoteCommand), (400, 0));
        let none = agree(&headers(&TO_SOCKET), Purpose::RemoteCommand).unwrap();
        assert_eq!(none.name, None);
    }
}
