//! What containerd hands to a shim that it executes, and the forms in which it takes the answer
//! (pure).
//!
//! | containerd | standard input of `start` | answer |
//! |---|---|---|
//! | 1.6, 1.7, 2.0 to 2.2 | `Any` with options, or nothing | the bare address: Task v2 |
//! | 2.3 and later | `BootstrapParams` | `BootstrapResult`, version 3 |
//! | CRI-O | nothing | the bare address: Task v2 |

pub(crate) mod flags;
pub(crate) mod params;

use containerd_shim_protos::bootstrap_api::BootstrapResult;
use protobuf::Message;
use serde_json::Value;

/// Annotations that name the pod of a container, in order of precedence.
const GROUPS: [&str; 3] = [
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
    "io.kubernetes.cri-o.SandboxID",
];

/// How `start` says where the shim listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The address and nothing else.
    Bare,
    /// A protobuf message.
    Message,
}

impl Answer {
    /// The bytes for standard output: no final newline, which some versions take for a part.
    ///
    /// # Errors
    /// When the message can't be encoded.
    pub(crate) fn bytes(self, address: &str) -> Result<Vec<u8>, protobuf::Error> {
        match self {
            Self::Bare => Ok(address.as_bytes().to_vec()),
            Self::Message => BootstrapResult {
                version: containerd_shim_protos::TASK_API_VERSION,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                ..BootstrapResult::default()
            }
            .write_to_bytes(),
        }
    }
}

/// The sandbox that container `id` belongs to by its configuration; itself if that says nothing.
pub(crate) fn group_of(config: &Value, id: &str) -> String {
    let annotation = |key: &&str| config.get("annotations")?.get(*key)?.as_str();
    let group = GROUPS.iter().find_map(annotation).filter(|group| !group.is_empty());
    group.unwrap_or(id).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bare_answer_is_the_address_alone() {
        assert_eq!(Answer::Bare.bytes("unix:///run/s/1").unwrap(), b"unix:///run/s/1");
    }

    #[test]
    fn message_answers_version_three() {
        let bytes = Answer::Message.bytes("unix:///run/s/1").unwrap();
        let result = BootstrapResult::parse_from_bytes(&bytes).unwrap();
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
        assert_eq!(result.address, "unix:///run/s/1");
    }

    #[test]
    fn pod_of_a_container_is_found_for_containerd_and_cri_o() {
        let group = |config| group_of(&config, "self");
        assert_eq!(group(json!({})), "self");
        assert_eq!(group(json!({"annotations": {"io.kubernetes.cri.sandbox-id": ""}})), "self");
        assert_eq!(group(json!({"annotations": {"io.kubernetes.cri.sandbox-id": "p"}})), "p");
        assert_eq!(group(json!({"annotations": {"io.kubernetes.cri-o.SandboxID": "o"}})), "o");
        let both = json!({"annotations": {
            "io.kubernetes.cri.sandbox-id": "p", "io.containerd.runc.v2.group": "g"
        }});
        assert_eq!(group(both), "g");
    }
}
