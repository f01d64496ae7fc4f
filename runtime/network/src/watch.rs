//! News of a network namespace.
#![allow(unsafe_code, reason = "tokio wants a promise that the descriptor stays the same")]

use std::io;

use netlink::{Groups, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::Error;
use crate::netns::Netns;

/// Tells that something in the namespace changed.
#[derive(Debug)]
pub struct Watch(AsyncFd<Socket>);

impl Watch {
    pub(crate) fn new(netns: &Netns) -> Result<Self, Error> {
        let doing = "watching a network";
        let socket = netns.enter(doing, || Socket::subscribe(Groups::ALL))?;
        // SAFETY: a Socket keeps its descriptor open and unchanged as long as it lives, which is as
        // long as the AsyncFd.
        let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        watched.map(Self).map_err(|error| Error::io(doing, error.into()))
    }

    /// Waits for changes and takes note of all there are: those that come while one is worked on
    /// are one change the next time.
    ///
    /// # Errors
    /// What the kernel answered; there will be no more news.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            let news = ready.get_inner_mut().drain()?;
            ready.clear_ready();
            if news {
                return Ok(());
            }
        }
    }
}
