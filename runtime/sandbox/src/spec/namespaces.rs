//! `linux.namespaces` of a configuration (pure): a path `/proc/<pid>/ns/<kind>` of the host names
//! the namespace of a process that this sandbox has reported, and becomes the guest's namespace
//! of the same meaning.
//!
//! | path names | kind | in the guest |
//! |---|---|---|
//! | the pod | pid, if the pod has one | the pod's pid namespace |
//! | no container | user, if the configuration has its maps | the pod's user namespace |
//! | the pod | any other | the guest's own, which is the pod's |
//! | a container | any | that container's |
//! | anything else | any | the guest's own |

use std::path::{Component, Path};

use api::{ContainerId, Error};
use serde_json::Value;

use super::has_content;

/// Whose process a number names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The pod's, that is its machine's.
    Pod {
        /// Whether its containers share process ids of their own, not the guest's.
        pid_namespace: bool,
    },
    /// A container's.
    Container(ContainerId),
}

/// Rewrites the namespaces of a configuration; `holder` knows the processes that were reported.
/// Returns what was left out, in plain words.
pub fn translate(spec: &mut Value, holder: impl Fn(u32) -> Option<Holder>) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(linux) = spec.get_mut("linux").and_then(Value::as_object_mut) else { return notes };
    // The pod's user namespace, wherever containerd or CRI-O have pinned theirs. It is made with the
    // maps of the first container; without them there is none to enter.
    let mapped = linux.get("uidMappings").is_some_and(has_content);
    let Some(namespaces) = linux.get_mut("namespaces").and_then(Value::as_array_mut) else {
        return notes;
    };
    namespaces.retain_mut(|namespace| {
        let Some(path) = namespace.get("path").and_then(Value::as_str) else { return true };
        if path.is_empty() {
            return true;
        }
        let kind = namespace.get("type").and_then(Value::as_str).unwrap_or_default();
        let process = process_of(Path::new(path));
        let place = process.and_then(&holder);
        if place.is_none() && (process.is_some() || !is_pinned(kind)) {
            notes.push(format!("{kind} namespace {path} of the host: the guest's own is used"));
        }
        match place.and_then(|holder| in_guest(&holder, kind)) {
            Some(path) => namespace["path"] = path.into(),
            None if kind == "user" && mapped => {
                namespace["path"] = agent_api::POD_USER_NAMESPACE.into();
            }
            None => return false,
        }
        true
    });
    notes
}

/// Checks that a user namespace has a user and a group 0, as whom a container is made (runc's rule
/// too).
///
/// # Errors
/// `Invalid` names the list that leaves id 0 out.
pub fn check_users(spec: &Value) -> Result<(), Error> {
    for list in ["uidMappings", "gidMappings"] {
        let ranges =
            spec.pointer("/linux").and_then(|linux| linux.get(list)).unwrap_or(&Value::Null);
        let of_zero = |range: &Value| {
            range["containerID"].as_u64() == Some(0) && range["size"].as_u64().unwrap_or(0) > 0
        };
        if has_content(ranges) && !ranges.as_array().is_some_and(|all| all.iter().any(of_zero)) {
            return Err(Error::Invalid(format!(
                "linux.{list} leave out id 0, as which a container is made: add a range with containerID 0"
            )));
        }
    }
    Ok(())
}

/// Whether a path that is no process's is the pod's: CNI's network, and what CRI-O pins.
fn is_pinned(kind: &str) -> bool {
    matches!(kind, "network" | "ipc" | "uts" | "user")
}

/// The process that a path below `/proc` names.
fn process_of(path: &Path) -> Option<u32> {
    let mut parts = path.components();
    let expected = [Component::RootDir, Component::Normal("proc".as_ref())];
    if expected.iter().any(|part| parts.next() != Some(*part)) {
        return None;
    }
    parts.next()?.as_os_str().to_str()?.parse().ok()
}

/// The path in the guest; none where it is the guest's own.
fn in_guest(holder: &Holder, kind: &str) -> Option<String> {
    match holder {
        Holder::Pod { pid_namespace: true } if kind == "pid" => {
            Some(agent_api::POD_PID_NAMESPACE.to_owned())
        }
        Holder::Pod { .. } => None,
        Holder::Container(id) => {
            Some(format!("{}/{id}/{}", agent_api::CONTAINER_NAMESPACES, file_of(kind)?))
        }
    }
}

/// The file below `/proc/<pid>/ns` for an OCI namespace type.
fn file_of(kind: &str) -> Option<&'static str> {
    match kind {
        "pid" => Some("pid"),
        "ipc" => Some("ipc"),
        "uts" => Some("uts"),
        "network" => Some("net"),
        "mount" => Some("mnt"),
        "user" => Some("user"),
        "cgroup" => Some("cgroup"),
        "time" => Some("time"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holder(pid: u32) -> Option<Holder> {
        match pid {
            7 => Some(Holder::Pod { pid_namespace: true }),
            8 => Some(Holder::Pod { pid_namespace: false }),
            9 => Some(Holder::Container(ContainerId::new("web").unwrap())),
            _ => None,
        }
    }

    fn translated(namespaces: Value) -> Value {
        let mut spec = json!({"linux": {"namespaces": namespaces}});
        translate(&mut spec, holder);
        spec["linux"]["namespaces"].take()
    }

    #[test]
    fn namespaces_of_the_pod_are_the_guests_and_pids_its_own() {
        let seen = translated(json!([
            {"type": "network", "path": "/proc/7/ns/net"},
            {"type": "ipc", "path": "/proc/7/ns/ipc"},
            {"type": "uts", "path": "/proc/7/ns/uts"},
            {"type": "pid", "path": "/proc/7/ns/pid"},
            {"type": "mount"},
        ]));
        let pod = json!([{"type": "pid", "path": "/run/cuddy/ns/pod/pid"}, {"type": "mount"}]);
        assert_eq!(seen, pod);
    }

    #[test]
    fn process_ids_of_the_host_are_the_guests() {
        assert_eq!(translated(json!([{"type": "pid", "path": "/proc/8/ns/pid"}])), json!([]));
    }

    #[test]
    fn namespace_of_another_container_is_named_by_it() {
        let seen = translated(json!([{"type": "pid", "path": "/proc/9/ns/pid"}]));
        let web = json!([{"type": "pid", "path": "/run/cuddy/ns/container/web/pid"}]);
        assert_eq!(seen, web);
    }

    #[test]
    fn what_is_unknown_or_new_is_left_out_or_left_alone() {
        let seen = translated(json!([
            {"type": "network", "path": "/var/run/netns/cni-1"},
            {"type": "pid", "path": "/proc/4/ns/pid"},
            {"type": "ipc", "path": "/proc/../9/ns/ipc"},
            {"type": "uts", "path": ""},
            {"type": "user", "path": "/proc/7/ns/user"},
        ]));
        assert_eq!(seen, json!([{"type": "uts", "path": ""}]));
    }

    #[test]
    fn namespaces_of_the_host_are_told() {
        let notes = |kind: &str, path: &str| {
            let namespaces = json!([{"type": kind, "path": path}]);
            translate(&mut json!({"linux": {"namespaces": namespaces}}), holder).len()
        };
        assert_eq!((notes("ipc", "/proc/1/ns/ipc"), notes("pid", "/run/pinned")), (1, 1));
        assert_eq!((notes("ipc", "/proc/7/ns/ipc"), notes("ipc", "/run/ipcns/1")), (0, 0));
        assert_eq!((notes("network", "/run/netns/cni-1"), notes("uts", "")), (0, 0));
    }

    #[test]
    fn user_namespace_with_maps_is_the_pods() {
        for path in ["/proc/7/ns/user", "/run/containerd/userns/pinned"] {
            let mut spec = json!({"linux": {
                "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65536}],
                "namespaces": [{"type": "user", "path": path}],
            }});
            assert!(translate(&mut spec, holder).is_empty());
            let pod = json!([{"type": "user", "path": "/run/cuddy/ns/pod/user"}]);
            assert_eq!(spec["linux"]["namespaces"], pod);
        }
    }
    #[test]
    fn user_namespace_without_root_is_refused_by_name() {
        let map = |first: u32| json!([{"containerID": first, "hostID": 1000, "size": 10}]);
        let check = |uids: u32, gids: u32| {
            check_users(&json!({"linux": {"uidMappings": map(uids), "gidMappings": map(gids)}}))
        };
        check(0, 0).unwrap();
        check_users(&json!({"linux": {}})).unwrap();
        assert!(check(1, 0).unwrap_err().to_string().contains("linux.uidMappings leave out id 0"));
        assert!(check(0, 1).unwrap_err().to_string().contains("linux.gidMappings leave out id 0"));
    }
}
