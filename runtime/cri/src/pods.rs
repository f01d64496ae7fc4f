//! All pods of the node that have an owner, and starts of pods that are under way. A start that is
//! asked for again while it is under way is the same one.

mod last_known;
mod run;

pub(crate) use last_known::{Known, LastKnown};
pub(crate) use run::undo;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use protocol::cri::PodSandboxConfig;

use crate::caller::Interest;
use crate::fault::Fault;
use crate::node::Node;
use crate::pod::handle::{Answer, Pod};
use crate::row::{PodKey, PodPhase, pod_key};

/// A start that is under way.
#[derive(Debug, Clone)]
struct Start {
    config: PodSandboxConfig,
    handler: String,
    interest: Interest,
    done: Shared<BoxFuture<'static, Answer>>,
}

/// What there is of a pod that is asked for.
enum Found {
    Ready(String),
    Starting(Box<Start>),
}

/// The pods of a node.
#[derive(Debug)]
pub(crate) struct Pods {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// What they were last known to use.
    pub(crate) last_known: LastKnown,
    owned: Mutex<HashMap<String, Pod>>,
    starts: Mutex<HashMap<PodKey, Start>>,
}

impl Pods {
    /// The pods of this node, of which none has an owner yet.
    pub(crate) fn new(node: Arc<Node>) -> Arc<Self> {
        let (last_known, owned, starts) = Default::default();
        Arc::new(Self { node, last_known, owned, starts })
    }

    /// The pod of this id.
    ///
    /// # Errors
    /// [`Fault::NotFound`].
    pub(crate) fn get(&self, id: &str) -> Result<Pod, Fault> {
        let owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        owned.get(id).cloned().ok_or_else(|| Fault::NotFound(format!("no pod sandbox {id}")))
    }

    /// Has a pod from now on, and no more those that were removed.
    pub(crate) fn add(&self, pod: Pod) {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        owned.retain(|_, pod| !pod.is_over());
        owned.insert(pod.site.id.clone(), pod);
    }

    /// Makes a pod, or finds the one that was asked for before; its id.
    ///
    /// # Errors
    /// Why there is none. Nothing is left of it then, but for what a failed cleaning up leaves: that
    /// is a pod that is not ready.
    pub(crate) async fn run_pod(
        self: &Arc<Self>,
        config: PodSandboxConfig,
        handler: &str,
        deadline: Option<std::time::Instant>,
    ) -> Answer {
        let metadata = config.metadata.clone().ok_or_else(|| {
            Fault::InvalidArgument("the pod's configuration has no metadata".into())
        })?;
        let key = pod_key(&metadata);
        loop {
            let (start, caller) = match self.join(&key, &config, handler)? {
                Found::Ready(id) => return Ok(id),
                Found::Starting(start) => {
                    let caller = start.interest.hold(deadline);
                    (start, caller)
                }
            };
            let answer = start.done.await;
            // Who came when it was being given up starts it anew.
            if caller.is_some() {
                return answer;
            }
        }
    }

    /// The start of a pod that is under way, or a new one; or the pod, if it has started before.
    fn join(
        self: &Arc<Self>,
        key: &PodKey,
        config: &PodSandboxConfig,
        handler: &str,
    ) -> Result<Found, Fault> {
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = starts.get(key) {
            let same = start.config == *config && start.handler == handler;
            return match same {
                true => Ok(Found::Starting(Box::new(start.clone()))),
                false => Err(taken(key, "is being started")),
            };
        }
        if let Some(answer) = self.known(key, config, handler) {
            return answer.map(Found::Ready);
        }
        let start = self.begin(config, handler, key.clone());
        starts.insert(key.clone(), start.clone());
        Ok(Found::Starting(Box::new(start)))
    }

    /// What is answered of a pod that is on record.
    fn known(&self, key: &PodKey, config: &PodSandboxConfig, handler: &str) -> Option<Answer> {
        let now = self.node.records.now();
        let row = now.pods.values().find(|row| pod_key(&row.metadata()) == *key)?;
        let same = row.config.as_ref() == Some(config) && row.handler == handler;
        Some(match row.phase() {
            PodPhase::Ready if same => Ok(row.id.clone()),
            PodPhase::Ready => Err(taken(key, &format!("is pod sandbox {}", row.id))),
            _ => {
                let state = format!("is pod sandbox {}, which has ended: remove it", row.id);
                Err(taken(key, &state))
            }
        })
    }

    fn begin(self: &Arc<Self>, config: &PodSandboxConfig, handler: &str, key: PodKey) -> Start {
        let interest = Interest::new();
        let (pods, wanted) = (Arc::clone(self), interest.clone());
        let (asked, by) = (config.clone(), handler.to_owned());
        let running = tokio::spawn(async move {
            let answer = run::run(&pods, asked, by, &wanted).await;
            pods.starts.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            answer
        });
        let done = running.map(|done| {
            done.unwrap_or_else(|_| Err(Fault::Internal("starting a pod: cuddyd ends".into())))
        });
        let (config, handler) = (config.clone(), handler.to_owned());
        Start { config, handler, interest, done: done.boxed().shared() }
    }
}

fn taken((namespace, name, uid, attempt): &PodKey, state: &str) -> Fault {
    let name = api::text::printable(&format!("{namespace}/{name}"), 200);
    let uid = api::text::printable(uid, 80);
    Fault::AlreadyExists(format!("pod {name} ({uid}), attempt {attempt}, {state}"))
}
