//! The metrics that there are, by cAdvisor's names: a kubelet's `/metrics/cadvisor` had them, and
//! dashboards ask for them. `tests` in critest name them, too.
//!
//! Values are whole numbers in the interface, so times are whole seconds.

use protocol::cri::{MetricDescriptor, MetricType};

/// Labels of every metric, in the order of their values; a kubelet's cAdvisor has the same.
pub(super) const LABELS: [&str; 6] = ["id", "name", "image", "container", "pod", "namespace"];

/// A metric without values.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its name.
    pub(super) name: &'static str,
    /// What it means.
    help: &'static str,
    /// Whether it only grows.
    pub(super) of: MetricType,
    /// Labels that it has beside [`LABELS`].
    pub(super) labels: &'static [&'static str],
}

/// Constants of metrics, and the list of them all.
macro_rules! kinds {
    ($($id:ident $of:ident $name:literal $labels:tt $help:literal;)*) => {
        $(pub(super) const $id: Kind = Kind {
            name: $name, help: $help, of: MetricType::$of, labels: &$labels,
        };)*
        const ALL: &[Kind] = &[$($id),*];
    };
}

kinds! {
    CPU_USAGE Counter "container_cpu_usage_seconds_total" ["cpu"] "CPU time used, in seconds.";
    CPU_USER Counter "container_cpu_user_seconds_total" [] "CPU time used by programs, in seconds.";
    CPU_SYSTEM Counter "container_cpu_system_seconds_total" []
        "CPU time used by the guest's kernel, in seconds.";
    CPU_PERIODS Counter "container_cpu_cfs_periods_total" []
        "Periods of the CPU limit that have passed.";
    CPU_THROTTLED_PERIODS Counter "container_cpu_cfs_throttled_periods_total" []
        "Periods in which the CPU limit was reached.";
    CPU_THROTTLED_SECONDS Counter "container_cpu_cfs_throttled_seconds_total" []
        "Time spent waiting for the CPU limit, in seconds.";
    MEMORY_USAGE Gauge "container_memory_usage_bytes" [] "Memory used, caches included, in bytes.";
    MEMORY_WORKING_SET Gauge "container_memory_working_set_bytes" []
        "Memory used without what could be dropped at once, in bytes.";
    MEMORY_MAX_USAGE Gauge "container_memory_max_usage_bytes" []
        "The most memory that was used, in bytes.";
    MEMORY_RSS Gauge "container_memory_rss" [] "Anonymous memory, in bytes.";
    MEMORY_CACHE Gauge "container_memory_cache" [] "Page cache, in bytes.";
    MEMORY_MAPPED_FILE Gauge "container_memory_mapped_file" [] "Mapped files, in bytes.";
    MEMORY_KERNEL Gauge "container_memory_kernel_usage" []
        "Stacks and slabs of the guest's kernel, in bytes.";
    MEMORY_SWAP Gauge "container_memory_swap" [] "Memory swapped out in the guest, in bytes.";
    MEMORY_FAILCNT Counter "container_memory_failcnt" [] "How often the memory limit was reached.";
    MEMORY_FAILURES Counter "container_memory_failures_total" ["failure_type", "scope"]
        "Page faults, by their kind.";
    OOM_EVENTS Counter "container_oom_events_total" [] "Processes killed for want of memory.";
    HUGETLB_USAGE Gauge "container_hugetlb_usage_bytes" ["pagesize"]
        "Huge pages of this size in use, in bytes.";
    FS_USAGE Gauge "container_fs_usage_bytes" [] "What is written of the container's disk, in bytes.";
    FS_LIMIT Gauge "container_fs_limit_bytes" []
        "What the container's root file system has room for, in bytes.";
    FS_INODES Gauge "container_fs_inodes_total" []
        "Files that the container's root file system has room for.";
    FS_INODES_FREE Gauge "container_fs_inodes_free" []
        "Files that the container's root file system has room for still.";
    FS_READS Counter "container_fs_reads_total" ["device"] "Reads of a disk of the machine.";
    FS_READ_BYTES Counter "container_fs_reads_bytes_total" ["device"]
        "Bytes read from a disk of the machine.";
    FS_WRITES Counter "container_fs_writes_total" ["device"] "Writes to a disk of the machine.";
    FS_WRITTEN_BYTES Counter "container_fs_writes_bytes_total" ["device"]
        "Bytes written to a disk of the machine.";
    BLKIO Counter "container_blkio_device_usage_total" ["device", "major", "minor", "operation"]
        "Bytes read from and written to a disk of the machine.";
    RECEIVED_BYTES Counter "container_network_receive_bytes_total" ["interface"]
        "Bytes that came.";
    RECEIVED_PACKETS Counter "container_network_receive_packets_total" ["interface"]
        "Packets that came.";
    RECEIVED_ERRORS Counter "container_network_receive_errors_total" ["interface"]
        "Packets that came broken.";
    RECEIVED_DROPPED Counter "container_network_receive_packets_dropped_total" ["interface"]
        "Packets that came and were dropped.";
    SENT_BYTES Counter "container_network_transmit_bytes_total" ["interface"] "Bytes that went.";
    SENT_PACKETS Counter "container_network_transmit_packets_total" ["interface"]
        "Packets that went.";
    SENT_ERRORS Counter "container_network_transmit_errors_total" ["interface"]
        "Packets that could not go.";
    SENT_DROPPED Counter "container_network_transmit_packets_dropped_total" ["interface"]
        "Packets that were dropped before they went.";
    PROCESSES Gauge "container_processes" [] "Processes.";
    THREADS Gauge "container_threads" [] "Threads.";
    THREADS_MAX Gauge "container_threads_max" [] "Threads that there may be; 0: no limit.";
    FILE_DESCRIPTORS Gauge "container_file_descriptors" [] "Open files.";
    SOCKETS Gauge "container_sockets" [] "Open sockets.";
    ULIMITS_SOFT Gauge "container_ulimits_soft" ["ulimit"]
        "Soft limits of the first process. One without a limit is not told.";
    PRESSURE_CPU_WAITING Counter "container_pressure_cpu_waiting_seconds_total" []
        "Time in which some waited for a CPU, in seconds.";
    PRESSURE_CPU_STALLED Counter "container_pressure_cpu_stalled_seconds_total" []
        "Time in which all waited for a CPU, in seconds.";
    PRESSURE_MEMORY_WAITING Counter "container_pressure_memory_waiting_seconds_total" []
        "Time in which some waited for memory, in seconds.";
    PRESSURE_MEMORY_STALLED Counter "container_pressure_memory_stalled_seconds_total" []
        "Time in which all waited for memory, in seconds.";
    PRESSURE_IO_WAITING Counter "container_pressure_io_waiting_seconds_total" []
        "Time in which some waited for a disk, in seconds.";
    PRESSURE_IO_STALLED Counter "container_pressure_io_stalled_seconds_total" []
        "Time in which all waited for a disk, in seconds.";
    SPEC_CPU_PERIOD Gauge "container_spec_cpu_period" []
        "Period of the CPU limit, in microseconds.";
    SPEC_CPU_QUOTA Gauge "container_spec_cpu_quota" []
        "CPU time in each period, in microseconds. Without a limit it is not told.";
    SPEC_CPU_SHARES Gauge "container_spec_cpu_shares" [] "Share of the CPUs beside others.";
    SPEC_MEMORY_LIMIT Gauge "container_spec_memory_limit_bytes" []
        "Limit of memory, in bytes; 0: none.";
    SPEC_MEMORY_RESERVATION Gauge "container_spec_memory_reservation_limit_bytes" []
        "Memory that is the container's whatever happens (`memory.min`), in bytes; 0: none.";
    SPEC_MEMORY_SWAP_LIMIT Gauge "container_spec_memory_swap_limit_bytes" []
        "Limit of memory and swap together, in bytes; 0: none.";
    START_TIME Gauge "container_start_time_seconds" [] "When it started, in seconds since 1970.";
    LAST_SEEN Gauge "container_last_seen" []
        "When its machine was last heard of, in seconds since 1970.";
}

/// The descriptors of all metrics.
pub(super) fn descriptors() -> Vec<MetricDescriptor> {
    let descriptor = |kind: &Kind| MetricDescriptor {
        name: kind.name.to_owned(),
        help: kind.help.to_owned(),
        label_keys: LABELS.iter().chain(kind.labels).map(|&label| label.to_owned()).collect(),
    };
    ALL.iter().map(descriptor).collect()
}
