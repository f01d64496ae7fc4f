//! What foreign containers use, and whether memory ran out: by the metrics of their shim, in
//! whatever version of cgroups.

use std::collections::BTreeMap;

use containerd_shim_protos::cgroups::metrics::Metrics as Old;
use containerd_shim_protos::cgroups_v2::metrics::Metrics;
use protobuf::Message;
use shim_client::{Any, PodMetrics, Shim};

use crate::fault::Fault;
use crate::ids;
use crate::pod::site::Site;
use crate::row::ContainerPhase;

const TYPE: &str = "io.containerd.cgroups.v2.Metrics";

/// What a version 1 of cgroups says where there is no limit: the greatest multiple of a page.
const UNLIMITED: u64 = i64::MAX as u64 & !4095;

/// Asks for the pod and each container that runs. The pod uses what they and its sandbox container
/// use.
///
/// # Errors
/// What the shim said of the pod.
pub(crate) async fn of_pod(site: &Site, shim: &Shim) -> Result<PodMetrics, Fault> {
    let mut sum = one(shim, &site.id).await?;
    let now = site.node.records.now();
    let mut containers = BTreeMap::new();
    for row in now.containers_of(&site.id).filter(|row| row.phase() == ContainerPhase::Running) {
        // It may have ended meanwhile.
        let Ok(metrics) = one(shim, &row.id).await else { continue };
        add(&mut sum, &metrics);
        containers.insert(row.id.clone(), any(&metrics)?);
    }
    Ok(PodMetrics { pod: Some(any(&sum)?), containers, ..PodMetrics::default() })
}

/// Whether the kernel killed a process of a container for want of memory.
pub(crate) async fn out_of_memory(shim: &Shim, id: &str) -> bool {
    one(shim, id).await.is_ok_and(|metrics| metrics.memory_events.oom_kill > 0)
}

async fn one(shim: &Shim, id: &str) -> Result<Metrics, Fault> {
    let any = shim.stats(&ids::of_container(id)?).await?;
    read(&any).ok_or_else(|| {
        Fault::Internal(format!("metrics of container {id}: {} is unknown", any.type_url))
    })
}

fn any(metrics: &Metrics) -> Result<Any, Fault> {
    let value = metrics.write_to_bytes().map_err(|error| Fault::Internal(error.to_string()))?;
    Ok(Any { type_url: TYPE.to_owned(), value })
}

/// Reads metrics of either version (pure).
fn read(any: &Any) -> Option<Metrics> {
    match any.type_url.rsplit('/').next()? {
        TYPE => Metrics::parse_from_bytes(&any.value).ok(),
        "io.containerd.cgroups.v1.Metrics" => Some(newer(&Old::parse_from_bytes(&any.value).ok()?)),
        _ => None,
    }
}

/// Version 1 in the words of version 2, as far as anybody asks for it (pure).
fn newer(old: &Old) -> Metrics {
    let mut new = Metrics::new();
    new.cpu.mut_or_insert_default().usage_usec = old.cpu.usage.total / 1000;
    new.pids.mut_or_insert_default().current = old.pids.current;
    let memory = new.memory.mut_or_insert_default();
    let (stat, usage) = (&old.memory, &old.memory.usage);
    memory.usage = usage.usage;
    memory.usage_limit = if usage.limit >= UNLIMITED { u64::MAX } else { usage.limit };
    memory.anon = stat.total_rss;
    memory.file = stat.total_cache;
    memory.inactive_file = stat.total_inactive_file;
    memory.pgfault = stat.total_pg_fault;
    memory.pgmajfault = stat.total_pg_maj_fault;
    // Swap counts memory as well there.
    memory.swap_usage = stat.swap.usage.saturating_sub(usage.usage);
    memory.swap_limit = u64::MAX;
    new.memory_events.mut_or_insert_default().oom_kill = old.memory_oom_control.oom_kill;
    new
}

/// Adds what another container uses (pure). A pod has no limits of its own here.
fn add(sum: &mut Metrics, other: &Metrics) {
    let (cpu, memory) = (sum.cpu.mut_or_insert_default(), sum.memory.mut_or_insert_default());
    cpu.usage_usec += other.cpu.usage_usec;
    memory.usage += other.memory.usage;
    memory.anon += other.memory.anon;
    memory.inactive_file += other.memory.inactive_file;
    memory.pgfault += other.memory.pgfault;
    memory.pgmajfault += other.memory.pgmajfault;
    memory.swap_usage += other.memory.swap_usage;
    sum.pids.mut_or_insert_default().current += other.pids.current;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_the_same() {
        let mut old = Old::new();
        old.cpu.mut_or_insert_default().usage.mut_or_insert_default().total = 5_000_000;
        let memory = old.memory.mut_or_insert_default();
        memory.total_inactive_file = 30;
        let usage = memory.usage.mut_or_insert_default();
        (usage.usage, usage.limit) = (100, UNLIMITED);
        old.memory_oom_control.mut_or_insert_default().oom_kill = 1;
        let value = old.write_to_bytes().unwrap();
        let told = Any { type_url: "io.containerd.cgroups.v1.Metrics".into(), value };
        let mut new = read(&told).unwrap();
        assert_eq!(
            (new.cpu.usage_usec, new.memory.usage, new.memory.inactive_file),
            (5000, 100, 30)
        );
        assert_eq!((new.memory.usage_limit, new.memory_events.oom_kill), (u64::MAX, 1));
        let same = read(&any(&new).unwrap()).unwrap();
        assert_eq!(same, new);
        add(&mut new, &same);
        assert_eq!((new.cpu.usage_usec, new.memory.usage), (10_000, 200));
        assert!(read(&Any { type_url: "other".into(), value: Vec::new() }).is_none());
    }
}
