//! Limits, what happens at them, and what is told of use.

use harness::cri::node::shared_pod;
use harness::cri::{ContainerSpec, api};
use harness::eventually;

const MIB: i64 = 1 << 20;

#[test]
fn taking_too_much_memory_is_told_as_such() {
    shared_pod(|node| {
        let spec = ContainerSpec::shell("main", "exec tail /dev/zero").memory(32 * MIB);
        let container = node.start(spec);
        let status = node.cri.exited(&container);
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"), "{status:?}");
        let other = node.start(ContainerSpec::shell("other", "exit 137"));
        let status = node.cri.exited(&other);
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"), "{status:?}");
    });
}

#[test]
fn statistics_follow_what_containers_do() {
    shared_pod(|node| {
        let cri = &node.cri;
        let script = "head -c 20000000 /dev/zero >/dev/shm/held; head -c 3000000 /dev/zero >/file; \
                      touch /ready; while :; do :; done";
        let container = node.start(ContainerSpec::shell("main", script));
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
        let stats = cri.pod_stats(&node.pod);
        let linux = stats.linux.unwrap();
        assert_eq!(linux.containers.len(), 1);
        let network = linux.network.unwrap().default_interface.unwrap();
        assert_eq!(network.name, "eth0");
    });
}

#[test]
fn limits_can_be_changed() {
    shared_pod(|node| {
        let mut spec = ContainerSpec::idle("main").memory(64 * MIB);
        spec.limits().cpu_period = 100_000;
        spec.limits().cpu_quota = 50_000;
        let container = node.start(spec);
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
    });
}

#[test]
fn a_container_is_measured_and_paused_by_name() {
    shared_pod(|node| {
        let container = node.idle();
        node.cri.sh(&container, "dd if=/dev/zero of=/dev/null bs=1M count=50 2>/dev/null");
        let daemon = node.daemon;
        let task = daemon.ctr(&["task", "metrics", "--format", "json", &container.id]);
        assert!(task.stdout.contains("usage_usec"), "{task:?}");
        daemon.ctr(&["task", "pause", &container.id]).ok();
        let seen = daemon.ctr(&["task", "ls"]).ok();
        let line = seen.lines().find(|line| line.contains(&container.id)).unwrap();
        assert!(line.contains("PAUSED"), "{line}");
        daemon.ctr(&["task", "resume", &container.id]).ok();
        assert_eq!(node.cri.sh(&container, "echo there"), "there");
    });
}
