//! A pull: asks a registry what a reference means, and brings layers of that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use vmm_api::wire::Channel;

use super::{Given, RoleError, Socket, failed, layer, next, runtime};
use crate::manifest::Platform;
use crate::registry::{Image, Login, Registry, RegistryError};
use crate::worker::jail;
use crate::worker::words::{self, Document, FailureKind, Job, Resolve, Told};

/// How often it is told how much of a layer has come.
const PERIOD: Duration = Duration::from_millis(100);

pub(super) fn serve(jobs: &Channel, first: Given) -> Result<(), RoleError> {
    let Given { job, mut socket, .. } = first;
    let Job::Resolve(resolve) = job else { return Err(RoleError::Order("no pull")) };
    let Resolve { reference, hosts, auth, patience } = *resolve;
    let login = auth.map_or(Login::Nobody, Login::Sent);
    let read = Registry::read(reference, &hosts, login, patience);
    jail::enter()?;
    let registry = match read {
        Ok(registry) => registry,
        Err(error) => return socket.tell(&refusal(&error)),
    };
    let runtime = runtime()?;
    let asked = registry.clone();
    runtime.spawn(async move { resolve_for(&asked, socket).await });
    while let Some(mut given) = next(jobs)? {
        let (file, registry) = (given.file()?, registry.clone());
        let Job::Layer(wanted) = given.job else { return Err(RoleError::Order("no layer")) };
        runtime.spawn(async move {
            let done = bring(&registry, wanted, file, given.socket).await;
            done.unwrap_or_else(|error| log::warn!("{error}"));
        });
    }
    // Threads that convert are of no use.
    runtime.shutdown_background();
    Ok(())
}

/// Tells what the reference means. Whoever does not listen has gone.
async fn resolve_for(registry: &Registry, mut socket: Socket) {
    let mut tell = |told: Told| drop(socket.tell(&told));
    for warning in registry.warnings() {
        tell(Told::Warning(warning.clone()));
    }
    match registry.image(&Platform::guest()).await {
        Ok(Image { documents, config_text, .. }) => {
            for fetched in documents {
                let (digest, content_type) = (fetched.digest, fetched.content_type);
                let body = fetched.body.to_vec();
                tell(Told::Document(Document { digest, content_type, body }));
            }
            tell(Told::Config(config_text.to_vec()));
        }
        Err(error) => tell(refusal(&error)),
    }
}

fn refusal(error: &RegistryError) -> Told {
    let kind = match error {
        RegistryError::Content(_) => FailureKind::Content,
        error => FailureKind::Registry(error.class()),
    };
    failed(kind, error)
}

/// Brings a layer, and tells how far it is, unless the daemon gives it up. The socket is open as
/// long as anything of it goes on.
async fn bring(
    registry: &Registry,
    wanted: words::Wanted,
    file: std::fs::File,
    socket: Socket,
) -> std::io::Result<()> {
    socket.0.set_nonblocking(true)?;
    let (mut from, mut to) = UnixStream::from_std(socket.0)?.into_split();
    let received = AtomicU64::new(0);
    let (pieces, mut thread) = layer::convert(&wanted, file);
    let fed = {
        let mut feeding = std::pin::pin!(layer::feed(registry, &wanted.blob, pieces, &received));
        let mut period = tokio::time::interval(PERIOD);
        let mut told = 0;
        loop {
            tokio::select! {
                fed = &mut feeding => break Some(fed),
                // Nothing is sent on it: this is its end.
                _ = from.read_u8() => break None,
                _ = period.tick() => {}
            }
            let now = received.load(Ordering::Relaxed);
            if now != told {
                told = now;
                to.write_all(&frame(&Told::Received(now))?).await?;
            }
        }
    };
    let last = match fed {
        None => {
            thread.give_up().await;
            return Ok(());
        }
        // What the thread says of a transfer that broke is only that.
        Some(Err(error)) => {
            thread.give_up().await;
            refusal(&error)
        }
        Some(Ok(())) => tokio::select! {
            made = thread.made() => made,
            _ = from.read_u8() => {
                thread.give_up().await;
                return Ok(());
            }
        },
    };
    to.write_all(&frame(&Told::Received(received.load(Ordering::Relaxed)))?).await?;
    to.write_all(&frame(&last)?).await
}

fn frame(told: &Told) -> std::io::Result<Vec<u8>> {
    words::frame(told).map_err(std::io::Error::other)
}
