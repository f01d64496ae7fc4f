//! The daemon's start: what is on record is compared with what the shims say, before anybody is
//! served. Pods that live go on; what ended meanwhile is put on record; what was half made is undone.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use shim_client::{Error, Shim, Status};

use crate::clock;
use crate::fault::Fault;
use crate::node::Node;
use crate::pod::fact::{Ending, Fact, Rows};
use crate::pod::foreign::outputs;
use crate::pod::handle::Pod;
use crate::pod::site::{self, Site};
use crate::pod::{effects, owner, rest, restarts, watch};
use crate::pods::{Pods, undo};
use crate::row::{self, ContainerPhase, PodPhase};

/// How long a shim may take to answer. One that does not answer is left alone.
const LIMIT: Duration = Duration::from_secs(5);

/// Takes over all pods.
pub(crate) async fn adopt(pods: &Arc<Pods>) {
    let node = &pods.node;
    let now = node.records.now();
    for row in now.containers.values() {
        for image in [&row.image_id].into_iter().chain(row.image_volumes.values()) {
            if let Err(fault) = node.images.hold_again(image, &row.id) {
                log::error!("container {}: image {image}: {fault}", row.id);
            }
        }
    }
    join_all(now.pods.values().map(|row| pod(pods, row))).await;
    let attached: Vec<_> =
        node.records.now().pods.values().map(|row| row.attachment.clone()).collect();
    node.network.collect(&attached).await;
}

async fn pod(pods: &Arc<Pods>, row: &row::Pod) {
    let node = &pods.node;
    let id = &row.id;
    let class = match node.classes.of(row) {
        Ok(class) => class.clone(),
        Err(fault) => return log::error!("pod {id}: {fault}: it is left alone"),
    };
    let site = Arc::new(Site::new(id, node, class));
    let rows = Rows { pod: row.clone(), containers: containers(node, id) };
    if row.phase() == PodPhase::Starting {
        match undo(&site, row).await {
            Ok(()) => return log::warn!("pod {id}: cuddyd ended while it started: it was undone"),
            Err(fault) => log::error!("pod {id}: undoing its start: {fault}"),
        }
    }
    let pod = owner::own(Arc::clone(&site), rows.clone());
    pods.add(pod.clone());
    let adopted = match row.has_shim {
        true => with_shim(&pod, &rows).await,
        false => Ok(()),
    };
    let half_done = half_done(&pod, &rows).await;
    for fault in [adopted, half_done].into_iter().filter_map(Result::err) {
        log::error!("pod {id}: taking it over: {fault}");
    }
}

fn containers(node: &Node, pod: &str) -> Vec<row::Container> {
    let now = node.records.now();
    let of_pod = now.containers.values().filter(|row| row.pod == pod);
    of_pod.map(|row| row::Container::clone(row)).collect()
}

/// A pod whose shim may live.
async fn with_shim(pod: &Pod, rows: &Rows) -> Result<(), Fault> {
    let site = &pod.site;
    let shim = match Shim::reconnect(&site.bundle(), LIMIT).await {
        Ok(shim) => shim,
        Err(Error::Gone(_) | Error::Disconnected(_)) => {
            let cleaned = site.clean_up().await;
            watch::lost(pod, "the pod's shim ended while cuddyd was down").await;
            cleaned?;
            site.let_go().await?;
            return pod.tell(Fact::NoShim).await;
        }
        Err(error) => return Err(error.into()),
    };
    site.set_shim(Some(shim.clone()));
    if !site.class.is_own()
        && let Err(fault) = outputs::ensure(site).await
    {
        log::error!("pod {}: its outputs: {fault}", site.id);
    }
    watch::pod(pod.clone(), shim.clone());
    for row in &rows.containers {
        container(pod, &shim, row).await?;
    }
    let pod = pod.clone();
    tokio::spawn(async move { rest::idle(&pod).await });
    Ok(())
}

/// A container of a pod whose shim lives.
async fn container(pod: &Pod, shim: &Shim, row: &row::Container) -> Result<(), Fault> {
    let id = row.id.clone();
    if !row.lives() {
        let pod = pod.clone();
        // It does nothing unless the container was to be started again.
        tokio::spawn(async move {
            restarts::again(&pod, &id).await;
            rest::idle(&pod).await;
        });
        return Ok(());
    }
    match shim.within(LIMIT).state(&site::init(&id)?).await {
        Ok(state) => {
            if row.start_begun && !matches!(state.status, Status::Created | Status::Unknown) {
                pod.tell(Fact::Running(id.clone(), clock::now())).await?;
            }
            watch::container(pod.clone(), shim.clone(), id);
            Ok(())
        }
        Err(Error::NotFound(_)) => {
            let ending = Ending::unseen(clock::now(), "its shim knows it no more");
            pod.tell(Fact::Exited(id, ending)).await
        }
        Err(error) => {
            // Its end is waited for all the same.
            watch::container(pod.clone(), shim.clone(), id);
            Err(error.into())
        }
    }
}

/// Undoes containers that were half made, and goes on with removals.
async fn half_done(pod: &Pod, rows: &Rows) -> Result<(), Fault> {
    for row in &rows.containers {
        match row.phase() {
            ContainerPhase::Creating => {
                // The shim mostly does not have it.
                effects::from_shim(&pod.site, &row.id).await?;
                effects::remove_files(&pod.site, &row.id).await?;
                pod.tell(Fact::NotCreated(row.id.clone())).await?;
            }
            ContainerPhase::Removing => {
                pod.ask(crate::pod::handle::Ask::Remove(row.id.clone())).await.map(drop)?;
            }
            _ => {}
        }
    }
    if rows.pod.phase() == PodPhase::Removing {
        pod.ask(crate::pod::handle::Ask::RemovePod).await.map(drop)?;
    }
    Ok(())
}
