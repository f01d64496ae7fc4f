//! What a pod's cgroup on the host says of its limits. The kubelet makes it and sets its limits of
//! memory and CPUs before it asks for the pod. Each is the sum of the containers' limits and the
//! RuntimeClass's overhead. When a container has no limit, the kubelet does not set it.

use std::path::PathBuf;

use host::Config;
use host::cgroup::{self, CpuLimit, Hierarchy, MemoryLimit};

use super::{Limits, OVERHEAD_MIB, OVERHEAD_MILLI_CPUS};

impl Limits {
    /// With what these limits leave open taken from the pod's cgroup: the parent of the sandbox
    /// container's, whose `cgroupsPath` this is. `hierarchies` are the host's. What can't be read
    /// says nothing.
    #[must_use]
    pub fn or_of_pod_cgroup(
        self,
        hierarchies: &[Hierarchy],
        cgroups_path: &str,
        config: &Config,
    ) -> Self {
        let Some(pod) = pod_directory(cgroups_path) else { return self };
        let places = || hierarchies.iter().map(|hierarchy| hierarchy.top.join(&pod));
        let overhead = (config.memory_overhead_mib + OVERHEAD_MIB) << 20;
        let memory = || places().find_map(|path| cgroup::memory_limit(&path));
        let mut limits = Self {
            memory_bytes: self.memory_bytes.or_else(|| Some(memory_part(memory()?, overhead))),
            ..self
        };
        if limits.cpu_quota_us.is_none()
            && let Some(limit) = places().find_map(|path| cgroup::cpu_limit(&path))
        {
            limits.cpu_quota_us = Some(cpu_part(limit));
            limits.cpu_period_us = Some(limit.period);
        }
        limits
    }
}

/// The pod's cgroup below the root; none for a sandbox that is in no pod's.
fn pod_directory(cgroups_path: &str) -> Option<PathBuf> {
    let pod = cgroup::directory(cgroups_path)?.parent()?.to_owned();
    pod.components().next().is_some().then_some(pod)
}

/// The containers' part of a limit of memory, in bytes. One that holds no more than the overhead
/// leaves the guest what is left, which is never nothing.
fn memory_part(limit: MemoryLimit, overhead: u64) -> u64 {
    limit.bytes.saturating_sub(overhead)
}

/// The containers' part of a limit of CPUs: its quota in microseconds.
fn cpu_part(limit: CpuLimit) -> u64 {
    let overhead = limit.period.saturating_mul(OVERHEAD_MILLI_CPUS) / 1000;
    limit.quota.saturating_sub(overhead).max(1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use host::config::RawConfig;

    use super::super::{Host, machine};
    use super::*;

    const SYSTEMD: &str = "kubepods-burstable-pod1_2.slice:crio:abc";
    const SYSTEMD_POD: &str =
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
    const MIB: u64 = 1 << 20;

    fn config() -> Config {
        let here = Path::new("/opt/cuddy");
        Config::new(RawConfig::default(), here, here).unwrap()
    }

    fn hierarchy(top: &Path) -> Hierarchy {
        Hierarchy::unified(top.to_owned(), top.to_owned())
    }

    /// What is read where `pod` has these files.
    fn limits(pod: &str, cgroups_path: &str, memory: &str, cpu: &str) -> Limits {
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join(pod);
        std::fs::create_dir_all(&pod).unwrap();
        for (file, text) in [("memory.max", memory), ("cpu.max", cpu)] {
            if !text.is_empty() {
                std::fs::write(pod.join(file), format!("{text}\n")).unwrap();
            }
        }
        Limits::default().or_of_pod_cgroup(&[hierarchy(root.path())], cgroups_path, &config())
    }

    fn with_overhead(mib: u64) -> String {
        ((mib + config().memory_overhead_mib + OVERHEAD_MIB) * MIB).to_string()
    }

    #[test]
    fn both_forms_of_a_path_lead_to_the_pods_limits() {
        let pods = [("kubepods/burstable/pod1", "/kubepods/burstable/pod1/crio-abc")];
        for (pod, path) in pods.into_iter().chain([(SYSTEMD_POD, SYSTEMD)]) {
            // The overhead of 1m is 100 us, and must not cost a third CPU.
            let limits = limits(pod, path, &with_overhead(1024), "200100 100000");
            let expected = Limits {
                cpu_quota_us: Some(200_000),
                cpu_period_us: Some(100_000),
                memory_bytes: Some(1 << 30),
            };
            assert_eq!(limits, expected, "{path}");
            // As from containerd's annotations.
            let host = Host { memory_mib: 8192, cpus: 4 };
            let by_cgroup = machine(&config(), limits, host).unwrap();
            assert_eq!(by_cgroup, machine(&config(), expected, host).unwrap());
            assert_eq!(by_cgroup.vcpus().get(), 2);
        }
    }

    #[test]
    fn version_1_has_a_hierarchy_for_each_limit() {
        let root = tempfile::tempdir().unwrap();
        for (controller, file, text) in [
            ("memory", "memory.limit_in_bytes", with_overhead(1024).as_str()),
            ("cpu,cpuacct", "cpu.cfs_quota_us", "200100"),
            ("cpu,cpuacct", "cpu.cfs_period_us", "100000"),
        ] {
            let pod = root.path().join(controller).join(SYSTEMD_POD);
            std::fs::create_dir_all(&pod).unwrap();
            std::fs::write(pod.join(file), format!("{text}\n")).unwrap();
        }
        let tops = ["pids", "memory", "cpu,cpuacct"].map(|name| hierarchy(&root.path().join(name)));
        let limits = Limits::default().or_of_pod_cgroup(&tops, SYSTEMD, &config());
        let expected = Limits {
            cpu_quota_us: Some(200_000),
            cpu_period_us: Some(100_000),
            memory_bytes: Some(1 << 30),
        };
        assert_eq!(limits, expected);
    }

    #[test]
    fn no_limit_and_no_file_leave_the_defaults() {
        assert_eq!(limits(SYSTEMD_POD, SYSTEMD, "max", "max 100000"), Limits::default());
        assert_eq!(limits(SYSTEMD_POD, SYSTEMD, "", ""), Limits::default());
        assert_eq!(limits("", "/abc", "4096", "1 1"), Limits::default(), "the root is no pod");
        assert_eq!(limits("", "a:b", "4096", "1 1"), Limits::default(), "no cgroup's path");
        let odd = limits(SYSTEMD_POD, SYSTEMD, "4096", "1000 100000");
        assert_eq!((odd.memory_bytes, odd.cpu_quota_us), (Some(0), Some(900)));
    }

    #[test]
    fn what_is_said_elsewhere_stays() {
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join(SYSTEMD_POD);
        std::fs::create_dir_all(&pod).unwrap();
        std::fs::write(pod.join("memory.max"), with_overhead(64)).unwrap();
        std::fs::write(pod.join("cpu.max"), "400000 100000").unwrap();
        let said = Limits { memory_bytes: Some(5 * MIB), ..Limits::default() };
        let limits = said.or_of_pod_cgroup(&[hierarchy(root.path())], SYSTEMD, &config());
        assert_eq!((limits.memory_bytes, limits.cpu_quota_us), (Some(5 * MIB), Some(399_900)));
    }
}
