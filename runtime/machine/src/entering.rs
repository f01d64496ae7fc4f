//! This process's way into the cgroup of its machine. It waits there until all of the host's kernel has
//! looked away from it, so a thread of its own waits.

use std::io;
use std::thread::{Builder, JoinHandle};

use api::Error;
use host::cgroup::Cgroup;
use tokio::sync::oneshot;

/// Stack of the thread in bytes.
const STACK: usize = 64 << 10;

/// A thread that puts this process into a cgroup. Dropping the value waits for it.
#[derive(Debug)]
pub(crate) struct Entering {
    entered: oneshot::Receiver<Result<(), Error>>,
    thread: Option<JoinHandle<()>>,
}

impl Entering {
    /// Begins.
    ///
    /// # Errors
    /// [`Error::Failed`] if there is no thread.
    pub(crate) fn begin(cgroup: Cgroup) -> Result<Self, Error> {
        let (tell, entered) = oneshot::channel();
        let enter = move || {
            // Nobody is there to be told when the machine was given up.
            let _gone = tell.send(cgroup.enter(std::process::id()));
        };
        let thread = Builder::new().name("cgroup".into()).stack_size(STACK).spawn(enter);
        let thread = thread.map_err(|error| Error::failed("starting a thread", &error))?;
        Ok(Self { entered, thread: Some(thread) })
    }

    /// Waits until this process is there.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the kernel answered.
    pub(crate) async fn done(mut self) -> Result<(), Error> {
        let lost = |_| Error::failed("entering the cgroup", &io::Error::other("the thread ended"));
        (&mut self.entered).await.map_err(lost)?
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        // One that panicked has said so.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}
