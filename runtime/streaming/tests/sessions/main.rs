//! Sessions as clients see them, over TCP on the loopback. The clients are written from the
//! protocols, frame by frame; they share nothing with the server but SPDY's dictionary.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod bulk;
mod clients;
mod exec;
mod forward;
mod hostile;
mod http;
mod life;

use std::time::Duration;

use streaming::{Limits, Listeners, Server};
use tokio::net::TcpListener;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on the loopback.
async fn server(limits: Limits) -> Server {
    let tcp = Some(TcpListener::bind("127.0.0.1:0").await.unwrap());
    Server::start(Listeners { tcp, unix: None }, limits).unwrap()
}

/// The result of what must not take long.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it takes too long")
}
