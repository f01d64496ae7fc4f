//! Starts a container's process again, after its end. However far it came when the daemon was
//! killed, it can be done again: the shim is asked first.

use shim_client::{Error, Shim, Status};

use super::create;
use crate::clock;
use crate::fault::Fault;
use crate::pod::fact::{Ending, Fact, Rows};
use crate::pod::handle::{Answer, Pod};
use crate::pod::{site, watch};
use crate::row::PodPhase;

pub(super) async fn run(pod: &Pod, rows: &Rows, id: &str) -> Answer {
    let shim = pod.site.shim()?;
    if let Err(fault) = again(pod, &shim, rows, id).await {
        let why = fault.to_string();
        pod.tell(Fact::NotRestarted(id.to_owned(), clock::now(), why)).await?;
        return Err(fault);
    }
    pod.tell(Fact::Restarted(id.to_owned(), clock::now())).await?;
    watch::container(pod.clone(), shim, id.to_owned());
    let now = pod.site.node.records.now();
    let is_ready = now.pods.get(&pod.site.id).is_some_and(|row| row.phase() == PodPhase::Ready);
    if !is_ready {
        // Who ends the pod may have looked at its containers before this one ran.
        pod.tell(Fact::Exited(id.to_owned(), Ending::unseen(clock::now(), ""))).await?;
    }
    Ok(id.to_owned())
}

async fn again(pod: &Pod, shim: &Shim, rows: &Rows, id: &str) -> Result<(), Fault> {
    let target = site::init(id)?;
    let is_there = match shim.state(&target).await {
        Ok(state) => match state.status {
            Status::Created => true,
            Status::Stopped(_) => {
                shim.delete(&target).await?;
                false
            }
            _ => return Ok(()),
        },
        Err(Error::NotFound(_)) => false,
        Err(error) => return Err(error.into()),
    };
    if !is_there {
        let request = create::request_again(&pod.site, rows, id).await?;
        shim.create(&request, pod.site.class.options.as_ref()).await?;
    }
    shim.start(&target).await?;
    Ok(())
}
