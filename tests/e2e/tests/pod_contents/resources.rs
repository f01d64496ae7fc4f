//! Limits, what happens at them, and what is told of use.

use std::os::unix::fs::MetadataExt;

use harness::cri::node::{any_handler, each_handler};
use harness::cri::{ContainerSpec, PodSpec, api};
use harness::{eventually, host};

const MIB: i64 = 1 << 20;

#[test]
fn taking_too_much_memory_is_told_as_such() {
    each_handler(|node| {
        let pod = node.run(PodSpec::new("oom").resources(32 * MIB, 1000));
        let spec = ContainerSpec::shell("main", "exec tail /dev/zero").memory(32 * MIB);
        let container = node.cri.start_new(&pod, spec);
        let status = node.cri.exited(&container);
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"), "{status:?}");
        let other = node.cri.start_new(&pod, ContainerSpec::shell("other", "exit 137"));
        let status = node.cri.exited(&other);
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"), "{status:?}");
        node.cri.remove_pod(&pod);
    });
}

#[test]
fn statistics_follow_what_containers_do() {
    any_handler(|node| {
        let cri = &node.cri;
        let pod = node.run(PodSpec::new("stats"));
        let script = "head -c 20000000 /dev/zero >/dev/shm/held; head -c 3000000 /dev/zero >/file; \
                      touch /ready; while :; do :; done";
        let container = cri.start_new(&pod, ContainerSpec::shell("main", script));
        eventually("it is ready", || {
            cri.exec_sync(&container, &["test", "-e", "/ready"]).code == 0
        });
        let first = cri.stats(&container);
        let memory = first.memory.unwrap();
        assert!(memory.usage_bytes.unwrap().value >= 20_000_000, "{memory:?}");
        assert!(memory.working_set_bytes.unwrap().value >= 20_000_000, "{memory:?}");
        assert!(memory.page_faults.unwrap().value > 0, "{memory:?}");
        let before = first.cpu.unwrap().usage_core_nano_seconds.unwrap().value;
        assert!(before > 0);
        eventually("the processor's time goes on", || {
            let cpu = cri.stats(&container).cpu.unwrap();
            cpu.timestamp > 0 && cpu.usage_core_nano_seconds.unwrap().value > before
        });
        // containerd takes the sizes of layers at intervals.
        eventually("the file is in the layer", || {
            let layer = cri.stats(&container).writable_layer;
            layer.and_then(|layer| layer.used_bytes).is_some_and(|used| used.value >= 3_000_000)
        });
        let stats = cri.pod_stats(&pod);
        let linux = stats.linux.unwrap();
        assert_eq!(linux.containers.len(), 1);
        let network = linux.network.unwrap().default_interface.unwrap();
        assert_eq!(network.name, "eth0");
        cri.remove_pod(&pod);
    });
}

fn score(pid: u32) -> i32 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn machine_and_shim_are_charged_to_the_pod_and_rank_with_it() {
    each_handler(|node| {
        let spec = PodSpec::new("charged").resources(128 * MIB, 1000);
        let parent = spec.config.linux.as_ref().unwrap().cgroup_parent.clone();
        let pod = node.run(spec);
        let (vmms, shims) = (host::vmms(), host::shims());
        assert_eq!((vmms.len(), shims.len()), (1, 1));
        for pid in [vmms[0], shims[0]] {
            let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            let below = cgroup.trim().strip_prefix("0::").is_some_and(|at| at.starts_with(&parent));
            assert!(below, "{cgroup} is not below {parent}");
        }
        // The shim is a little less precious than containerd, which is of this process's kind; the
        // machine as a pause process, and then as the most precious of its containers.
        assert_eq!(score(shims[0]), score(std::process::id()) + 1);
        assert_eq!(score(vmms[0]), -998);
        for (name, own, machine) in
            [("burstable", 900, 900), ("guaranteed", -997, -997), ("best", 1000, -997)]
        {
            let mut spec = ContainerSpec::idle(name);
            spec.limits().oom_score_adj = own;
            let container = node.cri.start_new(&pod, spec);
            assert_eq!(node.cri.sh(&container, "cat /proc/1/oom_score_adj"), own.to_string());
            assert_eq!(score(vmms[0]), machine, "{name}");
        }
        node.cri.remove_pod(&pod);
    });
}

/// What leads a VMM that its guest has taken over to what all pods read.
#[test]
fn machine_can_write_no_image_and_name_no_process() {
    any_handler(|node| {
        let pod = node.run(PodSpec::new("bounds"));
        node.cri.start_new(&pod, ContainerSpec::idle("main"));
        let vmm = host::vmms()[0];
        let status = std::fs::read_to_string(format!("/proc/{vmm}/status")).unwrap();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        assert_eq!(numbers.split_whitespace().last(), Some("1"), "{numbers}");
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
        assert_ne!(namespace(&vmm.to_string()), namespace("self"));
        let cgroup = std::fs::read_to_string(format!("/proc/{vmm}/cgroup")).unwrap();
        let limit = format!("/sys/fs/cgroup/{}/pids.max", cgroup.trim().trim_start_matches("0::/"));
        let limit = std::fs::read_to_string(limit).unwrap();
        assert!(limit.trim().parse::<u32>().is_ok(), "nobody else bounds threads: {limit}");
        let image = std::fs::metadata("/opt/cuddy/share/cuddy/rootfs.erofs").unwrap();
        let same = |link: &std::path::PathBuf| {
            let file = std::fs::metadata(link);
            file.is_ok_and(|file| (file.dev(), file.ino()) == (image.dev(), image.ino()))
        };
        let links = std::fs::read_dir(format!("/proc/{vmm}/fd")).unwrap();
        let links: Vec<_> = links.map(|link| link.unwrap().path()).filter(same).collect();
        assert!(!links.is_empty(), "the VMM has the guest's root image");
        for link in links {
            let error = std::fs::OpenOptions::new().write(true).open(&link).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{error}");
        }
        node.cri.remove_pod(&pod);
    });
}

#[test]
fn limits_can_be_changed() {
    any_handler(|node| {
        let pod = node.run(PodSpec::new("update").resources(64 * MIB, 500));
        let mut spec = ContainerSpec::idle("main").memory(64 * MIB);
        spec.limits().cpu_period = 100_000;
        spec.limits().cpu_quota = 50_000;
        let container = node.cri.start_new(&pod, spec);
        let shown = || node.cri.sh(&container, "cd /sys/fs/cgroup; cat memory.max cpu.max");
        assert_eq!(shown(), format!("{}\n50000 100000", 64 * MIB));
        let changed = api::LinuxContainerResources {
            memory_limit_in_bytes: 96 * MIB,
            cpu_period: 100_000,
            cpu_quota: 80_000,
            ..Default::default()
        };
        node.cri.try_update(&container, changed).unwrap();
        assert_eq!(shown(), format!("{}\n80000 100000", 96 * MIB));
        node.cri.remove_pod(&pod);
    });
}
