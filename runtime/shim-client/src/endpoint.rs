//! Where a shim listens and which calls it knows: its answer to `start` (pure).
//!
//! | shim of | answer |
//! |---|---|
//! | containerd 1.6 and 1.7, and ours to a caller that gave no `BootstrapParams` | the bare address: Task v2 |
//! | containerd 2.0 to 2.2 | JSON: `{"version":3,"address":"unix:///…","protocol":"ttrpc"}` |
//! | containerd 2.3 and later, and ours | `BootstrapResult` |
//!
//! The first form is also that of the file `address` in a bundle, the second that of
//! `bootstrap.json`.

use std::path::{Path, PathBuf};

use protobuf::Message;
use protocol::bootstrap::BootstrapResult;
use serde_json::{Value, json};

use crate::text::printable;

/// Most bytes of an answer.
pub(crate) const MAX_ANSWER: usize = 64 << 10;

/// The one protocol that is spoken here.
const PROTOCOL: &str = "ttrpc";

/// Version of the Task service. Both have the same messages, under different names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskVersion {
    /// `containerd.task.v2`: the shim is started again for each container of its pod, and `delete`
    /// is executed for each.
    V2,
    /// `containerd.task.v3`: further containers of the pod are created by the same shim without
    /// another start, and `delete` is executed for the first only.
    V3,
}

impl TaskVersion {
    /// The service's name.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::V2 => "containerd.task.v2.Task",
            Self::V3 => "containerd.task.v3.Task",
        }
    }

    fn number(self) -> i32 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// Where a shim listens, and which Task service it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Of its Task service.
    pub(crate) version: TaskVersion,
    /// Its Unix socket.
    pub(crate) socket: PathBuf,
}

/// An answer that says no endpoint which can be reached from here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error("it is empty")]
    Empty,
    #[error("it is neither a message, nor JSON, nor text")]
    Unreadable,
    #[error("Task service version {0} is not known here: 2 and 3 are")]
    Version(i64),
    #[error("protocol {0:?} is not spoken here: {PROTOCOL} is")]
    Protocol(String),
    #[error("address {0:?} can't be reached from here: unix:// and a whole path can")]
    Address(String),
}

impl Endpoint {
    /// Reads what a shim answered, in any of the three forms.
    ///
    /// # Errors
    /// What of it makes no sense or is not known here, by name.
    pub(crate) fn parse(answer: &[u8]) -> Result<Self, EndpointError> {
        // As text begins with none of its fields' numbers, a message is told apart by its address.
        let message = BootstrapResult::parse_from_bytes(answer).ok();
        if let Some(message) = message.filter(|message| !message.address.is_empty()) {
            return Self::new(message.version.into(), &message.protocol, &message.address);
        }
        let text = str::from_utf8(answer).map_err(|_| EndpointError::Unreadable)?.trim();
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(object)) => {
                let word = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
                let version = object.get("version").and_then(Value::as_i64).unwrap_or_default();
                Self::new(version, word("protocol"), word("address"))
            }
            _ if text.is_empty() => Err(EndpointError::Empty),
            _ => Self::new(2, PROTOCOL, text),
        }
    }

    fn new(version: i64, protocol: &str, address: &str) -> Result<Self, EndpointError> {
        let version = match version {
            2 => TaskVersion::V2,
            3 => TaskVersion::V3,
            other => return Err(EndpointError::Version(other)),
        };
        if !protocol.eq_ignore_ascii_case(PROTOCOL) {
            return Err(EndpointError::Protocol(protocol.chars().take(100).collect()));
        }
        let path = address.strip_prefix("unix://").map(Path::new);
        let whole = |path: &&Path| path.is_absolute() && printable(address) == address;
        match path.filter(whole) {
            Some(path) => Ok(Self { version, socket: path.to_owned() }),
            None => Err(EndpointError::Address(address.chars().take(200).collect())),
        }
    }

    /// The address as the file `address` has it.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The endpoint as the file `bootstrap.json` has it.
    pub(crate) fn json(&self) -> String {
        let (version, address) = (self.version.number(), self.address());
        json!({"version": version, "address": address, "protocol": PROTOCOL}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(version: i32, protocol: &str, address: &str) -> Vec<u8> {
        let (protocol, address) = (protocol.to_owned(), address.to_owned());
        let result = BootstrapResult { version, protocol, address, ..Default::default() };
        result.write_to_bytes().unwrap()
    }

    fn endpoint(version: TaskVersion) -> Result<Endpoint, EndpointError> {
        Ok(Endpoint { version, socket: "/run/s/1".into() })
    }

    #[test]
    fn all_forms_of_an_answer_are_read() {
        let parse = Endpoint::parse;
        assert_eq!(parse(b"unix:///run/s/1"), endpoint(TaskVersion::V2));
        assert_eq!(parse(b"unix:///run/s/1\n"), endpoint(TaskVersion::V2));
        let json = br#"{"version":3,"address":"unix:///run/s/1","protocol":"ttrpc"}"#;
        assert_eq!(parse(json), endpoint(TaskVersion::V3));
        let json = br#"{"protocol":"TTRPC","address":"unix:///run/s/1","version":2,"more":[]}"#;
        assert_eq!(parse(json), endpoint(TaskVersion::V2));
        assert_eq!(parse(&message(3, "ttrpc", "unix:///run/s/1")), endpoint(TaskVersion::V3));
        assert_eq!(parse(&message(2, "ttrpc", "unix:///run/s/1")), endpoint(TaskVersion::V2));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for version in [TaskVersion::V2, TaskVersion::V3] {
            let endpoint = endpoint(version).unwrap();
            assert_eq!(Endpoint::parse(endpoint.json().as_bytes()), Ok(endpoint));
        }
        let endpoint = endpoint(TaskVersion::V2).unwrap();
        assert_eq!(Endpoint::parse(endpoint.address().as_bytes()), Ok(endpoint));
    }

    #[test]
    fn what_is_not_spoken_here_is_refused_by_name() {
        let refused = |answer: &[u8]| Endpoint::parse(answer).unwrap_err().to_string();
        let acting = "unix:///run/\u{1b}[2J";
        for address in
            [acting, "vsock://3:1024", "hvsock:///s:1", "/run/s/1", "unix://@s", "unix://s", "x"]
        {
            for text in [refused(address.as_bytes()), refused(&message(3, "ttrpc", address))] {
                assert!(text.contains(&format!("{address:?}")), "{text}");
            }
        }
        let address = "unix:///run/s/1";
        assert!(refused(&message(3, "grpc", address)).contains("\"grpc\""));
        assert!(refused(&message(3, "", address)).contains("protocol"));
        assert!(refused(&message(4, "ttrpc", address)).contains("version 4"));
        let json = br#"{"address":"unix:///run/s/1","protocol":"ttrpc"}"#;
        assert!(refused(json).contains("version 0"));
        let json = br#"{"version":99999999999,"address":"unix:///run/s/1","protocol":"ttrpc"}"#;
        assert!(refused(json).contains("version 99999999999"));
    }

    #[test]
    fn answers_without_sense_are_told_as_such() {
        for empty in [&b""[..], b"\n", &message(3, "ttrpc", "")] {
            assert!(Endpoint::parse(empty).is_err());
        }
        assert_eq!(Endpoint::parse(b" \n"), Err(EndpointError::Empty));
        assert_eq!(Endpoint::parse(b"\xff\xfe"), Err(EndpointError::Unreadable));
        let lines = Endpoint::parse(b"panic: why\nunix:///run/s/1").unwrap_err().to_string();
        assert!(lines.contains("panic: why"), "{lines}");
        let lines = Endpoint::parse(b"unix:///run/s/1\nwarning: what").unwrap_err().to_string();
        assert!(lines.contains("warning"), "{lines}");
        let long = Endpoint::parse(&[b'x'; MAX_ANSWER]).unwrap_err().to_string();
        assert!(long.len() < 300);
    }
}
