//! Profiles of system calls as kubelet asks for them.

use harness::cri::ContainerSpec;
use harness::cri::api::security_profile::ProfileType;
use harness::cri::node::shared_pod;

/// What a profile of one's own forbids.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"}]}"#;

/// The state, then whether a user namespace can be made and a mode changed.
const SCRIPT: &str = "awk '/^Seccomp:/ { print $2 }' /proc/self/status; touch /tmp/file; \
                      unshare -U true 2>&1 && echo new; chmod 700 /tmp/file 2>&1 && echo changed";

#[test]
fn profile_that_kubelet_asks_for_is_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("profile.json");
    std::fs::write(&file, PROFILE).unwrap();
    shared_pod(|node| {
        let refused = |name: &str, text: &str| {
            text.contains(&format!("{name}: ")) && text.contains("Operation not permitted")
        };
        for (name, kind, filter) in [
            ("default", ProfileType::RuntimeDefault, "2"),
            ("localhost", ProfileType::Localhost, "2"),
            ("unconfined", ProfileType::Unconfined, "0"),
        ] {
            let file = if kind == ProfileType::Localhost { file.to_str().unwrap() } else { "" };
            let container = ContainerSpec::idle(name).seccomp(kind, file);
            let container = node.start(container);
            // Of an exec as of the container's own program.
            let of_first = node.cri.sh(&container, "awk '/^Seccomp:/ { print $2 }' /proc/1/status");
            assert_eq!(of_first, filter, "{name}");
            let text = node.cri.sh(&container, &format!("{SCRIPT}; true"));
            let lines: Vec<_> = text.lines().collect();
            assert_eq!((lines.len(), lines[0]), (3, filter), "{name}: {text}");
            let default = kind == ProfileType::RuntimeDefault;
            assert_eq!(
                (refused("unshare", lines[1]), lines[1] == "new"),
                (default, !default),
                "{name}: {text}"
            );
            let own = kind == ProfileType::Localhost;
            assert_eq!(
                (refused("chmod", lines[2]), lines[2] == "changed"),
                (own, !own),
                "{name}: {text}"
            );
        }
    });
}
