//! The OCI runtime configuration, as far as it applies inside a Linux guest. Field names and
//! meanings are those of the specification 1.2 (config.md, config-linux.md); unknown fields are
//! ignored, as the specification demands.

pub(crate) mod capability;
mod left_out;
pub(crate) mod linux;
pub(crate) mod process;
pub(crate) mod resources;
pub(crate) mod seccomp;

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{Hooks, LinuxIdMapping, Mount};
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use linux::{Linux, NamespaceType};
pub(crate) use process::Process;
pub(crate) use resources::Resources;

/// config.json.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) process: Option<Process>,
    pub(crate) root: Root,
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) mounts: Vec<Mount>,
    /// Only the kinds that run inside the guest; the host runs the others.
    pub(crate) hooks: Option<Hooks>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) annotations: HashMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) linux: Linux,
    /// Hexadecimal digits of the AppArmor policy that has the process's profile, added by the
    /// host. No part of the specification.
    #[serde(rename = "cuddyApparmorPolicy", skip_serializing_if = "String::is_empty")]
    pub(crate) apparmor_policy: String,
}

impl Spec {
    /// The guest's user id that shall own the container's cgroup: where a container with a cgroup
    /// namespace of its own may write to it, that of its process, which is `inside` there
    /// (config-linux.md, "Cgroup ownership"); none where root stays the owner.
    pub(crate) fn cgroup_owner(&self, inside: u32) -> Option<u32> {
        let writable = self.mounts.iter().any(|mount| {
            matches!(kind_of(mount), "cgroup" | "cgroup2")
                && mount.destination() == std::path::Path::new("/sys/fs/cgroup")
                && !mount.options().iter().flatten().any(|option| option == "ro")
        });
        let uid = if self.linux.namespace(NamespaceType::User).is_some() {
            self.linux.uid_mappings.iter().find_map(|range| outside(range, inside))?
        } else {
            inside
        };
        let own = writable && self.linux.is_new(NamespaceType::Cgroup);
        Some(uid).filter(|uid| own && *uid != 0)
    }
}

/// `root`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Root {
    /// Absolute path in the guest.
    pub(crate) path: PathBuf,
    pub(crate) readonly: bool,
}

/// The type of a mount; empty where it has none.
pub(crate) fn kind_of(mount: &Mount) -> &str {
    mount.typ().as_deref().unwrap_or_default()
}

/// The guest's id for one of the container, if it is in this range.
fn outside(range: &LinuxIdMapping, inside: u32) -> Option<u32> {
    let offset =
        inside.checked_sub(range.container_id()).filter(|offset| *offset < range.size())?;
    range.host_id().checked_add(offset)
}

/// Go programs write `null` for an empty list or map.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::Spec;

    /// What others' types of the configuration refuse or take for something else.
    #[test]
    fn all_that_the_specification_lets_pass_is_read_as_it_is_meant() {
        let spec: Spec = serde_json::from_str(
            r#"{"process":{"cwd":"/","args":null,"user":{"additionalGids":null,"umask":null},
                "capabilities":{"bounding":["CAP_FLY","CAP_KILL"],"ambient":null},
                "scheduler":{"policy":"SCHED_DEADLINE",
                    "flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN"]},
                "execCPUAffinity":{"initial":"","final":" 5 , 4"}},
            "mounts":[{"destination":"/a","type":null,"source":null,"options":null,"new":1}],
            "hooks":{"createContainer":null,"startContainer":[{"path":"/x","args":null,"new":1}]},
            "annotations":null,"newInTheNextVersion":{"a":1},
            "linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW",
                    "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_NEW"]},
                "timeOffsets":{"boottime":{"secs":null}},
                "resources":{"pids":{},"memory":{"limit":-1,"swap":-1,"reservation":null},
                    "cpu":{"cpus":null,"quota":-1,"new":1},"blockIO":{"weightDevice":null},
                    "rdma":{"mlx5_1":{"hcaHandles":null}},"devices":[{"allow":true,"type":"","access":"rwm"}],
                    "hugepageLimits":[{"pageSize":"2MB","limit":18446744073709551615}]}}}"#,
        )
        .unwrap();
        let process = spec.process.unwrap();
        assert_eq!(process.capabilities.unwrap().bounding, ["CAP_FLY", "CAP_KILL"]);
        assert_eq!(process.scheduler.unwrap().flags[1], "SCHED_FLAG_DL_OVERRUN");
        assert_eq!(process.exec_cpu_affinity.unwrap().last, " 5 , 4");
        assert_eq!(spec.linux.seccomp.unwrap().architectures[1], "SCMP_ARCH_NEW");
        let resources = spec.linux.resources.unwrap();
        assert_eq!(resources.pids.unwrap().limit, None, "0 would leave one process");
        let memory = resources.memory.unwrap();
        assert_eq!(
            (memory.limit(), memory.swap(), memory.reservation()),
            (Some(-1), Some(-1), None)
        );
        assert_eq!(resources.cpu.unwrap().quota(), Some(-1));
        assert_eq!(super::kind_of(&spec.mounts[0]), "");
        let hooks = spec.hooks.unwrap();
        assert_eq!((hooks.create_container(), hooks.start_container().iter().len()), (&None, 1));
        assert_eq!(resources.hugepage_limits[0].limit, u64::MAX);
        assert_eq!(resources.devices.unwrap()[0].kind, "");
        let null: super::Resources = serde_json::from_str(r#"{"pids":{"limit":null}}"#).unwrap();
        assert_eq!(null.pids.unwrap().limit, None);
    }

    #[test]
    fn cgroup_belongs_to_the_user_where_it_is_writable() {
        let spec = |options: &str, namespaces: &str, uid: u32| {
            let json = format!(
                r#"{{"mounts":[{{"destination":"/sys/fs/cgroup","type":"cgroup","options":[{options}]}}],
                "linux":{{"namespaces":[{namespaces}],
                "uidMappings":[{{"containerID":0,"hostID":1000,"size":10}}]}}}}"#
            );
            serde_json::from_str::<Spec>(&json).unwrap().cgroup_owner(uid)
        };
        let (own, user) = (r#"{"type":"cgroup"}"#, r#"{"type":"cgroup"},{"type":"user"}"#);
        assert_eq!(spec(r#""rw""#, own, 5), Some(5));
        assert_eq!(spec(r#""rw""#, user, 5), Some(1005));
        assert_eq!(spec(r#""rw""#, user, 0), Some(1000));
        assert_eq!(spec(r#""rw""#, user, 10), None, "not mapped");
        assert_eq!(spec(r#""rw""#, own, 0), None, "it is root's anyway");
        assert_eq!(spec(r#""ro""#, own, 5), None);
        assert_eq!(spec(r#""rw""#, r#"{"type":"pid"}"#, 5), None);
    }
}
