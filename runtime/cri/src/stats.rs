//! What pods and containers use. Each pod is asked once, all side by side. One that does not answer
//! in time is told as it was last known: it must not hold up the others.

mod convert;

pub(crate) use convert::metrics;

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::node::Node;
use crate::pod::handle::Pod;
use crate::pods::{Known, Pods};
use crate::row::{self, ContainerPhase};
use futures::future::join_all;
use protocol::cri::{
    ContainerStats, FilesystemIdentifier, FilesystemUsage, LinuxPodSandboxStats, NetworkUsage,
    PodSandboxAttributes, PodSandboxStats, UInt64Value,
};

/// How long a pod may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// The interface whose traffic is a pod's.
const INTERFACE: &str = "eth0";

/// The pods that `wanted` takes, with what they and their containers use.
pub(crate) async fn pods(
    pods: &Arc<Pods>,
    wanted: impl Fn(&row::Pod) -> bool,
) -> Vec<PodSandboxStats> {
    let node = &pods.node;
    let now = node.records.now();
    let rows = now.pods.values().filter(|row| row.is_listed() && wanted(row));
    let asked = rows.map(|row| async move { of_pod(node, row, &known(pods, row).await) });
    join_all(asked).await
}

/// The containers that run and that `wanted` takes, with what they use.
pub(crate) async fn containers(
    pods: &Arc<Pods>,
    wanted: impl Fn(&row::Container) -> bool,
) -> Vec<ContainerStats> {
    let node = &pods.node;
    let now = node.records.now();
    let wanted: Vec<_> = now.containers.values().filter(|row| runs(row) && wanted(row)).collect();
    let of: BTreeSet<_> = wanted.iter().map(|row| &row.pod).collect();
    let rows = of.into_iter().filter_map(|id| now.pods.get(id));
    let asked = rows.map(|row| async move { (row.id.clone(), known(pods, row).await) });
    let known: HashMap<_, _> = join_all(asked).await.into_iter().collect();
    let stats = wanted.iter().map(|row| {
        let known = known.get(&row.pod).cloned().unwrap_or_default();
        of_container(node, row, &known)
    });
    stats.collect()
}

/// Whether a container has a use to tell of.
pub(crate) fn runs(row: &row::Container) -> bool {
    row.phase() == ContainerPhase::Running
}

/// What a pod says now, or said last.
pub(crate) async fn known(pods: &Arc<Pods>, row: &row::Pod) -> Known {
    let last = || pods.last_known.get(&row.id);
    let Ok(pod) = pods.get(&row.id) else { return last() };
    match tokio::time::timeout(LIMIT, ask(&pod, row)).await {
        Ok(Some(known)) => {
            pods.last_known.put(&row.id, known.clone(), &pods.node.records.now().pods);
            known
        }
        _ => last(),
    }
}

async fn ask(pod: &Pod, row: &row::Pod) -> Option<Known> {
    let at = clock::now();
    let metrics = pod.site.metrics().await.ok()?;
    let interfaces = interfaces(row.netns.clone()).await;
    let shim_client::PodMetrics { pod, containers, census } = metrics;
    Some(Known { at, live: true, pod, containers, census, interfaces })
}

async fn interfaces(netns: String) -> Vec<network::Counters> {
    if netns.is_empty() {
        return Vec::new();
    }
    let read = tokio::task::spawn_blocking(move || {
        network::Netns::open(Path::new(&netns)).and_then(|netns| netns.counters())
    });
    read.await.ok().and_then(Result::ok).unwrap_or_default()
}

fn of_pod(node: &Node, row: &row::Pod, known: &Known) -> PodSandboxStats {
    let config = row.config.clone().unwrap_or_default();
    let attributes = PodSandboxAttributes {
        id: row.id.clone(),
        metadata: config.metadata,
        labels: config.labels,
        annotations: config.annotations,
    };
    let now = node.records.now();
    let containers = now.containers_of(&row.id).filter(|one| runs(one));
    let containers = containers.map(|one| of_container(node, one, known)).collect();
    let metrics = known.pod.as_ref().and_then(convert::metrics);
    let usage = metrics.as_ref().map(|metrics| convert::usage(metrics, known.at));
    let usage = usage.unwrap_or_default();
    let linux = LinuxPodSandboxStats {
        cpu: usage.cpu,
        memory: usage.memory,
        network: traffic(known),
        process: usage.process,
        containers,
        io: usage.io,
    };
    PodSandboxStats { attributes: Some(attributes), linux: Some(linux), windows: None }
}

fn traffic(known: &Known) -> Option<NetworkUsage> {
    let interfaces: Vec<_> = known.interfaces.iter().map(convert::interface).collect();
    let default_interface = interfaces.iter().find(|one| one.name == INTERFACE).cloned();
    let others = interfaces.into_iter().filter(|one| one.name != "lo" && one.name != INTERFACE);
    (known.at != 0).then(|| NetworkUsage {
        timestamp: known.at,
        default_interface,
        interfaces: others.collect(),
    })
}

fn of_container(node: &Node, row: &row::Container, known: &Known) -> ContainerStats {
    let config = row.config.clone().unwrap_or_default();
    let metrics = known.containers.get(&row.id).and_then(convert::metrics);
    let usage = metrics.as_ref().map(|metrics| convert::usage(metrics, known.at));
    let usage = usage.unwrap_or_default();
    ContainerStats {
        attributes: Some(protocol::cri::ContainerAttributes {
            id: row.id.clone(),
            metadata: config.metadata,
            labels: config.labels,
            annotations: config.annotations,
        }),
        cpu: usage.cpu,
        memory: usage.memory,
        writable_layer: written(node, &row.id),
        swap: usage.swap,
        io: usage.io,
    }
}

/// What a container's disk takes of the node's. None for one that writes to the node's own: to count
/// a tree of files takes long.
pub(crate) fn written(node: &Node, container: &str) -> Option<FilesystemUsage> {
    let directory = node.places.container(container);
    if directory.join(overlay::UPPER).is_dir() {
        return None;
    }
    let files = std::fs::read_dir(&directory).ok()?.flatten();
    let blocks = files.filter_map(|file| file.metadata().ok()).map(|facts| facts.blocks());
    let containers = node.places.containers().display().to_string();
    Some(FilesystemUsage {
        timestamp: clock::now(),
        fs_id: Some(FilesystemIdentifier { mountpoint: containers }),
        used_bytes: Some(UInt64Value { value: blocks.sum::<u64>() * 512 }),
        inodes_used: Some(UInt64Value { value: 1 }),
    })
}
