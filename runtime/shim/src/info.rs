//! `-info`: what the runtime is and can do, for containerd 2.0 and later.

use std::collections::HashMap;

use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};
use serde_json::json;

/// Version of this build.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Name under which containerd's configuration knows the runtime.
const NAME: &str = "io.containerd.cuddy.v2";

/// Type of [`features`] as containerd names it (its typeurl of the OCI `Features`).
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Mounts of a root filesystem that are left to the runtime: EROFS layers and the disks to write to,
/// which become disks of the machine.
pub(crate) const MOUNT_TYPES: [&str; 2] = ["erofs", "ext4"];

/// What is done before such a mount and is left to the runtime as well: making its directory and
/// its filesystem.
pub(crate) const MOUNT_TRANSFORMS: [&str; 2] = ["mkdir", "format"];

/// The annotation in which containerd 2.2 and 2.3 look for them. Later ones have them in the answer
/// of `start`.
const ALLOW_MOUNTS: &str = "containerd.io/runtime-allow-mounts";

/// Words that the guest's agent knows as options of mounts; what is not among them goes to the
/// filesystem. Those of propagation outwards are missing.
const MOUNT_OPTIONS: &[&str] = &[
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "idmap",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "rw",
    "slave",
    "strictatime",
    "suid",
];

/// Returns the answer for standard output.
pub(crate) fn run() -> anyhow::Result<Vec<u8>> {
    let version = RuntimeVersion { version: VERSION.to_owned(), ..RuntimeVersion::default() };
    let features = Any {
        type_url: FEATURES.to_owned(),
        value: features().to_string().into_bytes(),
        ..Any::default()
    };
    let transforms = MOUNT_TRANSFORMS.iter().map(|transform| format!("{transform}/*"));
    let mounts: Vec<_> = transforms.chain(MOUNT_TYPES.map(str::to_owned)).collect();
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: MessageField::some(version),
        features: MessageField::some(features),
        annotations: HashMap::from([(ALLOW_MOUNTS.to_owned(), mounts.join(","))]),
        ..RuntimeInfo::default()
    };
    Ok(info.write_to_bytes()?)
}

/// What a container's configuration may ask for (OCI runtime specification, `features.md`).
/// containerd's CRI plugin offers Kubernetes recursively read-only mounts because of `rro`, and
/// user namespaces because of mapped ids.
fn features() -> serde_json::Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
            "poststop",
        ],
        "mountOptions": MOUNT_OPTIONS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "cgroup": {
                "v1": false, "v2": true, "systemd": false, "systemdUser": false, "rdma": false,
            },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW",
                    "SCMP_ACT_LOG",
                ],
                "operators": [
                    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE",
                    "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
                ],
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_names_the_runtime_and_what_it_can_do() {
        let info = RuntimeInfo::parse_from_bytes(&run().unwrap()).unwrap();
        assert_eq!((info.name.as_str(), info.version.version.as_str()), (NAME, VERSION));
        assert_eq!(info.annotations[ALLOW_MOUNTS], "mkdir/*,format/*,erofs,ext4");
        let features: serde_json::Value = serde_json::from_slice(&info.features.value).unwrap();
        let options = features["mountOptions"].as_array().unwrap();
        assert!(options.contains(&json!("rro")) && !options.contains(&json!("rshared")));
        assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        assert_eq!(features["hooks"].as_array().unwrap().len(), 6);
        // The guest has nobody to notify.
        let actions = features["linux"]["seccomp"]["actions"].as_array().unwrap();
        assert!(
            actions.contains(&json!("SCMP_ACT_LOG"))
                && !actions.contains(&json!("SCMP_ACT_NOTIFY"))
        );
    }
}
