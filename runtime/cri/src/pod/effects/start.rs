//! Starts a container's process.

use shim_client::Error;

use crate::clock;
use crate::fault::Fault;
use crate::pod::fact::Fact;
use crate::pod::handle::{Answer, Pod};
use crate::pod::site;

/// A start that failed leaves a container that has ended: nothing of it will run any more.
pub(super) async fn run(pod: &Pod, id: &str) -> Answer {
    let shim = pod.site.shim()?;
    pod.tell(Fact::StartBegun(id.to_owned())).await?;
    match shim.start(&site::init(id)?).await {
        Ok(_) => {
            pod.tell(Fact::Running(id.to_owned(), clock::now())).await?;
            Ok(id.to_owned())
        }
        // It may run, and its end will be told; another start will join or be answered.
        Err(error @ (Error::DeadlineExceeded(_) | Error::Disconnected(_))) => Err(error.into()),
        Err(error) => {
            let fault = Fault::from(error);
            pod.tell(Fact::NotStarted(id.to_owned(), clock::now(), fault.to_string())).await?;
            Err(fault)
        }
    }
}
