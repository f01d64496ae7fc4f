//! The start of a pod: its network and its machine are made side by side, each on record before.

use std::sync::Arc;

use protocol::cri::PodSandboxConfig;

use super::Pods;
use crate::caller::Interest;
use crate::clock;
use crate::fault::Fault;
use crate::ids;
use crate::network::Attached;
use crate::node::Node;
use crate::pod::effects::{remove_bundle, take_down};
use crate::pod::fact::Rows;
use crate::pod::handle::Answer;
use crate::pod::site::Site;
use crate::pod::{owner, watch};
use crate::record::Change;
use crate::row::{self, PodPhase};
use crate::spec;

/// A pod that comes to be.
struct Starting {
    pods: Arc<Pods>,
    site: Arc<Site>,
    row: row::Pod,
}

/// Starts a pod. When `interest` ceases, it is given up at the next step.
pub(super) async fn run(
    pods: &Arc<Pods>,
    config: PodSandboxConfig,
    handler: String,
    interest: &Interest,
) -> Answer {
    let node = &pods.node;
    let found = node.classes.choose(&handler, &config)?.clone();
    spec::check_pod(&config, &found.handler)
        .map_err(|error| Fault::InvalidArgument(error.to_string()))?;
    let id = ids::new().map_err(|error| Fault::Internal(format!("making an id: {error}")))?;
    let class = found.name.to_string();
    let site = Arc::new(Site::new(&id, node, found));
    let netns = match spec::has_network(&config) {
        true => node.places.netns(&site.id).display().to_string(),
        false => String::new(),
    };
    let row = row::Pod { id, netns, class, config: Some(config), handler, ..row::Pod::default() };
    let mut starting = Starting { pods: Arc::clone(pods), site, row };
    match starting.make(interest).await {
        Ok(()) => Ok(starting.site.id.clone()),
        Err(fault) => Err(starting.undo(fault).await),
    }
}

impl Starting {
    async fn make(&mut self, interest: &Interest) -> Result<(), Fault> {
        self.write().await?;
        let (node, site) = (Arc::clone(&self.site.node), Arc::clone(&self.site));
        interest.check()?;
        if !self.row.netns.is_empty() {
            node.network.make_namespace(&self.row.netns).await?;
            self.row.attachment = node.network.plan(&self.row).await?;
        }
        self.row.has_shim = true;
        self.write().await?;
        let row = self.row.clone();
        let attached = attach(&node, &row);
        let both = async { tokio::join!(attached, site.begin(&row)) };
        let (attached, begun) = tokio::select! {
            both = both => both,
            () = interest.gone() => return interest.check(),
        };
        if let Some(attached) = attached? {
            self.row.attachment = attached.attachment;
            self.row.ips = attached.ips.iter().map(ToString::to_string).collect();
            self.write().await?;
        }
        let shim = begun?;
        interest.check()?;
        tokio::select! {
            ready = site.ready(&shim) => ready?,
            () = interest.gone() => return interest.check(),
        }
        interest.check()?;
        self.row.created_at = clock::now();
        self.row.set_phase(PodPhase::Ready);
        self.write().await?;
        let pod = owner::own(Arc::clone(&site), Rows { pod: self.row.clone(), ..Rows::default() });
        self.pods.add(pod.clone());
        watch::pod(pod, shim);
        Ok(())
    }

    async fn write(&self) -> Result<(), Fault> {
        self.site.node.records.put(vec![Change::Pod(Box::new(self.row.clone()))]).await
    }

    /// Leaves nothing of it. What can't be undone now stays on record as a pod that has ended, whose
    /// removal tries again.
    async fn undo(mut self, fault: Fault) -> Fault {
        match undo(&self.site, &self.row).await {
            Ok(()) => fault,
            Err(left) => {
                log::error!("pod {}: {fault}; undoing its start: {left}", self.site.id);
                self.row.reason = format!("{fault}; undoing its start failed: {left}");
                self.row.created_at = clock::now();
                self.row.set_phase(PodPhase::Stopped);
                if let Err(fault) = self.write().await {
                    log::error!("pod {}: {fault}", self.site.id);
                }
                let pod =
                    owner::own(Arc::clone(&self.site), Rows { pod: self.row, ..Rows::default() });
                self.pods.add(pod);
                fault
            }
        }
    }
}

/// Takes a pod into the network, if it has one of its own.
async fn attach(node: &Node, row: &row::Pod) -> Result<Option<Attached>, Fault> {
    if row.attachment.is_empty() {
        return Ok(None);
    }
    node.network.attach(&row.attachment).await.map(Some)
}

/// Undoes the start of a pod, however far it came. It can be done again.
///
/// # Errors
/// What could not be undone.
pub(crate) async fn undo(site: &Site, row: &row::Pod) -> Result<(), Fault> {
    if row.has_shim {
        site.set_shim(None);
        site.clean_up().await?;
        site.let_go().await?;
    }
    take_down(site, row).await?;
    remove_bundle(&site.bundle()).await?;
    site.node.records.put(vec![Change::NoPod(site.id.clone())]).await
}
