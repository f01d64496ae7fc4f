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

use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};
use protocol::bootstrap::{BootstrapResult, Extension, MountCapabilities};
use sandbox::spec::Document;

use crate::info;

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
                extensions: vec![mounts()?],
                ..BootstrapResult::default()
            }
            .write_to_bytes(),
        }
    }
}

/// Which mounts containerd 2.4 and later leaves to this shim; earlier ones do not read it.
fn mounts() -> Result<Extension, protobuf::Error> {
    let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
    let capabilities = MountCapabilities {
        types: words(&info::MOUNT_TYPES),
        transforms: words(&info::MOUNT_TRANSFORMS),
        ..MountCapabilities::default()
    };
    let value = Any {
        type_url: "type.googleapis.com/containerd.types.MountCapabilities".to_owned(),
        value: capabilities.write_to_bytes()?,
        ..Any::default()
    };
    Ok(Extension { value: MessageField::some(value), ..Extension::default() })
}

/// The sandbox that container `id` belongs to by its configuration; itself if that says nothing.
///
/// # Errors
/// `Invalid` when its annotations are no texts.
pub(crate) fn group_of(config: &Document, id: &str) -> Result<String, api::Error> {
    let annotations = config.annotations()?;
    let group = GROUPS.iter().find_map(|key| annotations.get(*key));
    Ok(group.filter(|group| !group.is_empty()).map_or(id, String::as_str).to_owned())
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
        // As containerd 2.3 knows it.
        use containerd_shim_protos::bootstrap_api::BootstrapResult;
        let result = BootstrapResult::parse_from_bytes(&bytes).unwrap();
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
        assert_eq!(result.address, "unix:///run/s/1");
    }

    /// Written out as containerd 2.4 reads it (its api/types/mount.proto).
    #[test]
    fn mounts_that_are_left_to_the_shim_are_in_the_answer() {
        let bytes = Answer::Message.bytes("a").unwrap();
        let name = b"type.googleapis.com/containerd.types.MountCapabilities";
        let lists = b"\x0a\x05erofs\x0a\x04ext4\x12\x05mkdir\x12\x06format";
        let any = [&b"\x0a\x36"[..], name, b"\x12\x1c", lists].concat();
        let extension = [&b"\x32\x58\x0a\x56"[..], &any].concat();
        assert_eq!((name.len(), lists.len(), any.len()), (0x36, 0x1c, 0x56));
        assert!(bytes.ends_with(&extension), "{}", bytes.escape_ascii());
    }

    #[test]
    fn pod_of_a_container_is_found_for_containerd_and_cri_o() {
        let group =
            |config| group_of(&Document::new(config, "config.json").unwrap(), "self").unwrap();
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
