//! A container's cgroup files as they are; the host makes metrics of them.

use std::collections::HashMap;
use std::path::Path;

/// Files of one value or table each. Those of controllers that the kernel lacks are left out.
const FILES: [&str; 22] = [
    "cpu.stat",
    "cpu.pressure",
    "cpu.weight",
    "cpu.max",
    "memory.current",
    "memory.stat",
    "memory.max",
    "memory.high",
    "memory.low",
    "memory.peak",
    "memory.events",
    "memory.pressure",
    "memory.swap.current",
    "memory.swap.max",
    "memory.swap.peak",
    "memory.swap.events",
    "pids.current",
    "pids.max",
    "pids.events",
    "io.stat",
    "io.pressure",
    "rdma.current",
];

/// Reads everything that is there.
pub(crate) fn read_all(directory: &Path) -> HashMap<String, String> {
    let huge = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("hugetlb.") && !name.contains(".rsvd."));
    let names = FILES.iter().map(|name| (*name).to_owned()).chain(huge);
    names
        .filter_map(|name| {
            let text = std::fs::read_to_string(directory.join(&name)).ok()?;
            Some((name, text))
        })
        .collect()
}
