//! What is done with the shim of a pod of either kind. A machine's shim is ours; that of containers
//! on the node is foreign.

use std::path::PathBuf;
use std::time::Duration;

use companion::Request;
use shim_client::{PodMetrics, Shim};

use super::foreign::{self, outputs};
use super::site::{Site, init};
use crate::fault::Fault;
use crate::ids;
use crate::row;

impl Site {
    /// Starts its shim and creates its sandbox, which boots its machine if it is one.
    ///
    /// # Errors
    /// What the shim said.
    pub(crate) async fn begin(&self, pod: &row::Pod) -> Result<Shim, Fault> {
        let shim = match self.class.is_own() {
            true => self.class.begin(&self.bundle(), pod).await?,
            false => foreign::begin(self, pod).await?,
        };
        self.set_shim(Some(shim.clone()));
        Ok(shim)
    }

    /// Lets the pod take containers, whose network is there.
    ///
    /// # Errors
    /// What the shim said.
    pub(crate) async fn ready(&self, shim: &Shim) -> Result<(), Fault> {
        if !self.class.is_own() {
            return shim.start(&init(&self.id)?).await.map(drop).map_err(Fault::from);
        }
        shim.sandbox(ids::of_sandbox(&self.id)?).start().await?;
        Ok(())
    }

    /// Waits until the pod has ended while its shim lives.
    ///
    /// # Errors
    /// What the shim said.
    pub(crate) async fn ended(&self, shim: &Shim) -> Result<(), shim_client::Error> {
        if !self.class.is_own() {
            let Ok(sandbox) = init(&self.id) else { return Ok(()) };
            return shim.wait(&sandbox).await.map(drop);
        }
        let Ok(id) = ids::of_sandbox(&self.id) else { return Ok(()) };
        shim.sandbox(id).wait().await.map(drop)
    }

    /// Ends the pod with its shim in order, within about `patience`.
    ///
    /// # Errors
    /// What the shim said. Then [`Self::clean_up`] ends it.
    pub(crate) async fn end(&self, shim: &Shim, patience: Duration) -> Result<(), Fault> {
        if !self.class.is_own() {
            return foreign::end(self, shim, patience).await;
        }
        let sandbox = shim.sandbox(ids::of_sandbox(&self.id)?);
        match sandbox.stop(patience).await {
            Ok(()) | Err(shim_client::Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        sandbox.shutdown().await?;
        let closed = tokio::time::timeout(patience, shim.closed()).await;
        closed.map_err(|_| Fault::DeadlineExceeded("the shim does not end".into()))
    }

    /// Ends what is left of its shim by force. It can be repeated.
    ///
    /// # Errors
    /// What the runtime said.
    pub(crate) async fn clean_up(&self) -> Result<(), Fault> {
        match self.class.is_own() {
            true => self.class.clean_up(&self.bundle(), &self.id).await,
            false => foreign::clean_up(self).await,
        }
    }

    /// Ends what is beside the shim, once nothing of the pod runs. It can be repeated.
    ///
    /// # Errors
    /// That the companion does not end.
    pub(crate) async fn let_go(&self) -> Result<(), Fault> {
        match self.class.is_own() {
            true => Ok(()),
            false => Ok(outputs::companion(self).end().await?),
        }
    }

    /// Opens a container's log anew at its path.
    ///
    /// # Errors
    /// What its writer said.
    pub(crate) async fn reopen_log(&self, id: &str) -> Result<(), Fault> {
        if self.class.is_own() {
            let own = self.shim()?.own();
            return own.reopen_log(&ids::of_container(id)?).await.map_err(Fault::from);
        }
        let request = Request::Reopen { id: id.to_owned() };
        Ok(outputs::ensure(self).await?.ask(&request).await?)
    }

    /// Hands a container's outputs to fifos from now on, either of which may be empty.
    ///
    /// # Errors
    /// What their writer said.
    pub(crate) async fn attach(&self, id: &str, stdout: &str, stderr: &str) -> Result<(), Fault> {
        if self.class.is_own() {
            let own = self.shim()?.own();
            return Ok(own.attach(&ids::of_container(id)?, stdout, stderr).await?);
        }
        let path = |text: &str| Some(PathBuf::from(text)).filter(|_| !text.is_empty());
        let (stdout, stderr) = (path(stdout), path(stderr));
        let request = Request::Attach { id: id.to_owned(), stdout, stderr };
        Ok(outputs::ensure(self).await?.ask(&request).await?)
    }

    /// What the pod and its containers use.
    ///
    /// # Errors
    /// What the shim said.
    pub(crate) async fn metrics(&self) -> Result<PodMetrics, Fault> {
        let shim = self.shim()?;
        match self.class.is_own() {
            true => Ok(shim.own().metrics().await?),
            false => foreign::metrics::of_pod(self, &shim).await,
        }
    }
}
