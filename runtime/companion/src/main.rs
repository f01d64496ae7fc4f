//! `cuddy-streams`: the companion of one pod. It is given its listening socket as standard input.

use std::os::fd::AsFd;

use anyhow::Context;
use tokio::net::UnixListener;

fn main() -> anyhow::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_timestamp_millis()
        .init();
    let given = std::io::stdin().as_fd().try_clone_to_owned().context("taking the socket")?;
    let listener = std::os::unix::net::UnixListener::from(given);
    listener.set_nonblocking(true).context("standard input is no socket")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("starting")?.block_on(async {
        let listener = UnixListener::from_std(listener).context("listening")?;
        companion::serve(listener).await.context("serving")
    })
}
