use std::collections::{HashMap, HashSet};

use api::usage::Census;
use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats, PidsStat,
};
use protobuf::{Message, MessageField};
use protocol::cri::{
    ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig, LinuxContainerResources,
    Metric, PodSandboxConfig, PodSandboxMetadata,
};
use shim_client::Any;

use super::*;
use crate::row::{Container, Pod};

fn any(metrics: &Metrics) -> Any {
    let type_url = "io.containerd.cgroups.v2.Metrics".to_owned();
    Any { type_url, value: metrics.write_to_bytes().unwrap() }
}

fn psi() -> MessageField<PSIStats> {
    let data = |total| MessageField::some(PSIData { total, ..PSIData::default() });
    let (some, full) = (data(3_000_000), data(1_999_999));
    MessageField::some(PSIStats { some, full, ..PSIStats::default() })
}

fn cgroup() -> Metrics {
    let mut metrics = Metrics::new();
    metrics.cpu = MessageField::some(CPUStat { usage_usec: 7_500_000, ..CPUStat::default() });
    metrics.memory = MessageField::some(MemoryStat {
        usage: 100,
        max_usage: 120,
        inactive_file: 30,
        kernel_stack: 4,
        slab: 5,
        ..MemoryStat::default()
    });
    metrics.pids = MessageField::some(PidsStat { current: 6, ..PidsStat::default() });
    metrics.memory_events =
        MessageField::some(MemoryEvents { max: 8, oom_kill: 1, ..MemoryEvents::default() });
    let disk = IOEntry { major: 254, minor: 1, rbytes: 512, ..IOEntry::default() };
    metrics.io.mut_or_insert_default().usage.push(disk);
    let pages = HugeTlbStat { pagesize: "2MB".into(), current: 9, ..HugeTlbStat::default() };
    metrics.hugetlb.push(pages);
    metrics.cpu.mut_or_insert_default().psi = psi();
    metrics.memory.mut_or_insert_default().psi = psi();
    metrics.io.mut_or_insert_default().psi = psi();
    metrics
}

fn known() -> Known {
    let census = Census {
        processes: Some(2),
        file_descriptors: Some(11),
        sockets: Some(3),
        open_files_limit: Some(1024),
        root_bytes: Some(1 << 30),
        root_inodes: Some(500),
        root_inodes_free: Some(400),
    };
    Known {
        at: 5_000_000_000,
        live: true,
        pod: Some(any(&cgroup())),
        containers: [("web".to_owned(), any(&cgroup()))].into(),
        census: [("web".to_owned(), census)].into(),
        interfaces: vec![network::Counters {
            name: "eth0".into(),
            received_dropped: 4,
            ..network::Counters::default()
        }],
    }
}

fn pod() -> Pod {
    let metadata =
        PodSandboxMetadata { name: "shop".into(), namespace: "prod".into(), ..Default::default() };
    let config = Some(PodSandboxConfig { metadata: Some(metadata), ..PodSandboxConfig::default() });
    Pod { id: "p1".into(), config, created_at: 1_000_000_000, ..Pod::default() }
}

/// What critest's container asks for.
fn container() -> Container {
    let limits = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        cpu_shares: 1024,
        memory_limit_in_bytes: 64 << 20,
        memory_swap_limit_in_bytes: 64 << 20,
        ..LinuxContainerResources::default()
    };
    let linux = LinuxContainerConfig { resources: Some(limits), ..Default::default() };
    let user_specified_image = "busybox".into();
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "web".into(), attempt: 0 }),
        image: Some(ImageSpec { user_specified_image, ..ImageSpec::default() }),
        linux: Some(linux),
        ..ContainerConfig::default()
    };
    let (id, started_at) = ("web".to_owned(), 2_000_000_000);
    Container { id, config: Some(config), started_at, ..Container::default() }
}

fn value(metrics: &[Metric], name: &str) -> Option<u64> {
    metrics.iter().find(|metric| metric.name == name)?.value.map(|value| value.value)
}

/// What critest's two specs look for (cri-tools, `pkg/validate/pod.go`).
#[test]
fn every_descriptor_has_a_value_with_as_many_labels() {
    let container = of_container(&pod(), &container(), &known(), Some(77));
    let pod = pod_metrics(&pod(), &known());
    let labels: HashMap<_, _> = container
        .metrics
        .iter()
        .chain(&pod)
        .map(|metric| (&*metric.name, metric.label_values.len()))
        .collect();
    let descriptors = descriptors();
    for descriptor in &descriptors {
        assert!(!descriptor.help.is_empty(), "{}", descriptor.name);
        let found = labels.get(&*descriptor.name);
        assert_eq!(found, Some(&descriptor.label_keys.len()), "{}", descriptor.name);
    }
    let names: HashSet<_> = descriptors.iter().map(|descriptor| &descriptor.name).collect();
    assert_eq!(names.len(), descriptors.len(), "no name comes twice");
    assert_eq!(labels.len(), descriptors.len(), "no value is without a descriptor");
}

#[test]
fn numbers_are_where_dashboards_look_for_them() {
    let metrics = of_container(&pod(), &container(), &known(), Some(77)).metrics;
    let expected = [
        ("container_cpu_usage_seconds_total", 7),
        ("container_memory_working_set_bytes", 70),
        ("container_memory_kernel_usage", 9),
        ("container_memory_failcnt", 8),
        ("container_oom_events_total", 1),
        ("container_pressure_io_waiting_seconds_total", 3),
        ("container_pressure_cpu_stalled_seconds_total", 1),
        ("container_processes", 2),
        ("container_threads", 6),
        ("container_threads_max", 0),
        ("container_fs_usage_bytes", 77),
        ("container_fs_reads_bytes_total", 512),
        ("container_spec_cpu_quota", 20_000),
        ("container_spec_memory_limit_bytes", 64 << 20),
        ("container_start_time_seconds", 2),
        ("container_last_seen", 5),
    ];
    for (name, number) in expected {
        assert_eq!(value(&metrics, name), Some(number), "{name}");
    }
    let usage = metrics.iter().find(|one| one.name == "container_cpu_usage_seconds_total").unwrap();
    assert_eq!(usage.label_values, ["web", "web", "busybox", "web", "shop", "prod", "total"]);
    assert_eq!(usage.timestamp, 0, "it was gathered now");
    assert_eq!(
        value(&pod_metrics(&pod(), &known()), "container_network_receive_packets_dropped_total"),
        Some(4)
    );
}

#[test]
fn what_is_not_known_has_no_value() {
    let nothing = Known::default();
    let row = Container { id: "web".into(), ..Container::default() };
    assert!(of_container(&pod(), &row, &nothing, None).metrics.is_empty());
    let names = |metrics: Vec<Metric>| metrics.into_iter().map(|one| one.name).collect::<Vec<_>>();
    assert_eq!(names(pod_metrics(&pod(), &nothing)), ["container_start_time_seconds"]);
    let old_agent = Known { census: [].into(), ..known() };
    let metrics = of_container(&pod(), &container(), &old_agent, None).metrics;
    for name in ["container_processes", "container_sockets", "container_fs_usage_bytes"] {
        assert_eq!(value(&metrics, name), None, "{name}");
    }
}

#[test]
fn old_numbers_say_how_old_they_are() {
    let metrics = pod_metrics(&pod(), &Known { live: false, ..known() });
    assert!(metrics.iter().all(|metric| metric.timestamp == 5_000_000_000), "{metrics:?}");
}
