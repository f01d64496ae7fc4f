//! `linux.namespaces` of a configuration (pure). A path `/proc/<pid>/ns/<kind>` of the host names
//! the namespace of a process that this sandbox has reported. It becomes the guest's namespace of
//! the same meaning.
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
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType};

use super::Document;
use super::document::joined;

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
///
/// # Errors
/// [`Error::Invalid`] for a namespace of no known type.
pub fn translate(
    spec: &mut Document,
    holder: impl Fn(u32) -> Option<Holder>,
) -> Result<Vec<String>, Error> {
    let mut notes = Vec::new();
    // The pod's user namespace, wherever containerd or CRI-O have pinned theirs. It is made with the
    // maps of the first container; without them there is none to enter.
    let mapped = !spec.list::<LinuxIdMapping>("/linux/uidMappings")?.is_empty();
    spec.retain("/linux/namespaces", |_, namespace: &mut LinuxNamespace| {
        let Some(path) = joined(namespace) else { return Ok(true) };
        let kind = namespace.typ();
        let process = process_of(path);
        let place = process.and_then(&holder);
        if place.is_none() && (process.is_some() || !is_pinned(kind)) {
            let path = path.display();
            notes.push(format!("{kind} namespace {path} of the host: the guest's own is used"));
        }
        let users = kind == LinuxNamespaceType::User && mapped;
        let path = place.and_then(|holder| in_guest(&holder, kind));
        let path = path.or_else(|| users.then(|| agent_api::POD_USER_NAMESPACE.to_owned()));
        namespace.set_path(path.map(Into::into));
        Ok(namespace.path().is_some())
    })?;
    Ok(notes)
}

/// Checks that a user namespace has a user and a group 0, as whom a container is made (runc's rule
/// too).
///
/// # Errors
/// `Invalid` names the list that leaves id 0 out.
pub fn check_users(spec: &Document) -> Result<(), Error> {
    for list in ["uidMappings", "gidMappings"] {
        let ranges = spec.list::<LinuxIdMapping>(&format!("/linux/{list}"))?;
        let of_zero = |range: &LinuxIdMapping| range.container_id() == 0 && range.size() > 0;
        if !ranges.is_empty() && !ranges.iter().any(of_zero) {
            return Err(Error::Invalid(format!(
                "linux.{list} leave out id 0, as which a container is made: add a range with containerID 0"
            )));
        }
    }
    Ok(())
}

/// Whether a path that is no process's is the pod's: CNI's network, and what CRI-O pins.
fn is_pinned(kind: LinuxNamespaceType) -> bool {
    use LinuxNamespaceType::{Ipc, Network, User, Uts};
    matches!(kind, Network | Ipc | Uts | User)
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
fn in_guest(holder: &Holder, kind: LinuxNamespaceType) -> Option<String> {
    match holder {
        Holder::Pod { pid_namespace: true } if kind == LinuxNamespaceType::Pid => {
            Some(agent_api::POD_PID_NAMESPACE.to_owned())
        }
        Holder::Pod { .. } => None,
        // A type is shown as the file below `/proc/<pid>/ns`.
        Holder::Container(id) => Some(format!("{}/{id}/{kind}", agent_api::CONTAINER_NAMESPACES)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
        let mut spec = Document::from(json!({"linux": {"namespaces": namespaces}}));
        translate(&mut spec, holder).unwrap();
        spec.json("/linux/namespaces").clone()
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
        for (kind, file) in [
            ("pid", "pid"),
            ("ipc", "ipc"),
            ("uts", "uts"),
            ("network", "net"),
            ("mount", "mnt"),
            ("user", "user"),
            ("cgroup", "cgroup"),
            ("time", "time"),
        ] {
            let seen = translated(json!([{"type": kind, "path": "/proc/9/ns/x", "new": 1}]));
            let path = format!("/run/cuddy/ns/container/web/{file}");
            assert_eq!(seen, json!([{"type": kind, "path": path, "new": 1}]));
        }
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
            let mut spec = Document::from(json!({"linux": {"namespaces": namespaces}}));
            translate(&mut spec, holder).unwrap().len()
        };
        assert_eq!((notes("ipc", "/proc/1/ns/ipc"), notes("pid", "/run/pinned")), (1, 1));
        assert_eq!((notes("ipc", "/proc/7/ns/ipc"), notes("ipc", "/run/ipcns/1")), (0, 0));
        assert_eq!((notes("network", "/run/netns/cni-1"), notes("uts", "")), (0, 0));
    }

    #[test]
    fn user_namespace_with_maps_is_the_pods() {
        for path in ["/proc/7/ns/user", "/run/containerd/userns/pinned"] {
            let mut spec = Document::from(json!({"linux": {
                "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65536}],
                "namespaces": [{"type": "user", "path": path}],
            }}));
            assert!(translate(&mut spec, holder).unwrap().is_empty());
            let pod = json!([{"type": "user", "path": "/run/cuddy/ns/pod/user"}]);
            assert_eq!(*spec.json("/linux/namespaces"), pod);
        }
    }
    #[test]
    fn user_namespace_without_root_is_refused_by_name() {
        let map = |first: u32| json!([{"containerID": first, "hostID": 1000, "size": 10}]);
        let check = |uids: u32, gids: u32| {
            let linux = json!({"uidMappings": map(uids), "gidMappings": map(gids)});
            check_users(&json!({"linux": linux}).into())
        };
        check(0, 0).unwrap();
        check_users(&json!({"linux": {"uidMappings": null}}).into()).unwrap();
        assert!(check(1, 0).unwrap_err().to_string().contains("linux.uidMappings leave out id 0"));
        assert!(check(0, 1).unwrap_err().to_string().contains("linux.gidMappings leave out id 0"));
    }
}
