//! The service that only our own shim has, `cuddy.shim.v1`. Others answer that it is not
//! implemented.

use std::time::Duration;

use api::ContainerId;
use protobuf::Message;
use protocol::shim::{
    AttachRequest, AttachResponse, ListRequest, ListResponse, MetricsRequest, MetricsResponse,
    ReopenLogRequest, ReopenLogResponse,
};

use crate::connection::Call;
use crate::convert;
use crate::error::Error;
use crate::limits::{ASK, WORK};
use crate::shim::Shim;
use crate::text::printable;
use crate::words::{Listing, PodMetrics};

const SERVICE: &str = "cuddy.shim.v1.Shim";

/// What our own shim is asked beside containerd's calls; cheap to clone.
#[derive(Debug, Clone)]
pub struct Own {
    shim: Shim,
}

impl Shim {
    /// The calls that only our own shim knows.
    pub fn own(&self) -> Own {
        Own { shim: self.clone() }
    }
}

impl Own {
    /// All containers of the pod, and why it is over if it is.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn list(&self) -> Result<Listing, Error> {
        let doing = "listing the pod's containers";
        let answer: ListResponse = self.ask("List", doing, ASK, &ListRequest::default()).await?;
        let listed = answer.containers.into_iter().map(convert::listed).collect::<Result<_, _>>();
        let containers = listed.map_err(|error| Error::Other(format!("{doing}: {error}")))?;
        Ok(Listing { containers, reason: printable(&answer.reason) })
    }

    /// Opens a container's log anew at its path. The old file is complete and closed then.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn reopen_log(&self, id: &ContainerId) -> Result<(), Error> {
        let message = ReopenLogRequest { id: id.to_string(), ..ReopenLogRequest::default() };
        let doing = format!("opening the log of container {:?} anew", id.as_str());
        let answer = self.ask("ReopenLog", &doing, WORK, &message);
        answer.await.map(|_: ReopenLogResponse| ())
    }

    /// Hands a container's outputs to fifos that the caller reads, from now on; either may be
    /// empty. Their ends are those of the outputs. Who reads too slowly is told the end early.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn attach(&self, id: &ContainerId, stdout: &str, stderr: &str) -> Result<(), Error> {
        let message = AttachRequest {
            id: id.to_string(),
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
            ..AttachRequest::default()
        };
        let doing = format!("attaching to container {:?}", id.as_str());
        self.ask("Attach", &doing, ASK, &message).await.map(|_: AttachResponse| ())
    }

    /// What the pod and each of its containers use, in one call.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn metrics(&self) -> Result<PodMetrics, Error> {
        let doing = "reading the metrics of the pod";
        let answer: MetricsResponse =
            self.ask("Metrics", doing, ASK, &MetricsRequest::default()).await?;
        let containers = answer.containers.into_iter().map(|(id, any)| (id, convert::any(any)));
        let containers = containers.collect();
        let census = answer.census.iter().map(|(id, census)| (id.clone(), convert::census(census)));
        let census = census.collect();
        Ok(PodMetrics { pod: answer.pod.into_option().map(convert::any), containers, census })
    }

    async fn ask<T: Message>(
        &self,
        method: &str,
        doing: &str,
        limit: Duration,
        message: &impl Message,
    ) -> Result<T, Error> {
        self.shim.ask(limit, Call { service: SERVICE, method, doing }, message).await
    }
}
