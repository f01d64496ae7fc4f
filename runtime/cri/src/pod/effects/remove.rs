//! Removes a container, and kills it first if it runs.

use std::io;
use std::path::Path;

use shim_client::Error;

use super::stop;
use crate::fault::Fault;
use crate::foreign::files::unmount;
use crate::pod::fact::Fact;
use crate::pod::foreign::{collect, outputs};
use crate::pod::handle::{Answer, Pod};
use crate::pod::site::{self, Site};
use crate::row::ContainerPhase;

pub(super) async fn run(pod: &Pod, id: &str) -> Answer {
    let now = pod.site.node.records.now();
    let runs = now.containers.get(id).is_some_and(|row| row.phase() == ContainerPhase::Running);
    if runs && pod.site.shim().is_ok() {
        stop::kill(pod, id).await?;
    }
    pod.tell(Fact::Removing(id.to_owned())).await?;
    from_shim(&pod.site, id).await?;
    remove_files(&pod.site, id).await?;
    pod.tell(Fact::Removed(id.to_owned())).await?;
    Ok(id.to_owned())
}

/// Lets the shim forget a container, which is killed if it lives. One that does not know it, or is
/// gone, has none.
///
/// # Errors
/// What the shim said.
pub(crate) async fn from_shim(site: &Site, id: &str) -> Result<(), Fault> {
    let Ok(shim) = site.shim() else { return Ok(()) };
    match shim.delete(&site::init(id)?).await {
        Ok(_) => {}
        Err(Error::NotFound(_) | Error::Gone(_) | Error::Disconnected(_)) => return Ok(()),
        // One that was never started, or runs.
        Err(_) => {
            shim.kill(&site::init(id)?, api::events::SIGKILL, true).await.or_else(gone)?;
            shim.wait(&site::init(id)?).await.map(drop).or_else(gone)?;
            shim.delete(&site::init(id)?).await.map(drop).or_else(gone)?;
        }
    }
    Ok(())
}

/// What is gone needs nothing.
fn gone(error: Error) -> Result<(), Fault> {
    match error {
        Error::NotFound(_) | Error::Gone(_) | Error::Disconnected(_) => Ok(()),
        error => Err(error.into()),
    }
}

/// Removes the files of a container: its bundle, what it has written, its volumes. Its image may go
/// then, too.
///
/// # Errors
/// [`Fault::Internal`] with the path.
pub(crate) async fn remove_files(site: &Site, id: &str) -> Result<(), Fault> {
    let places = &site.node.places;
    let foreign = !site.class.is_own();
    if foreign {
        outputs::close(site, id).await;
    }
    remove_bundle(&places.bundle(id)).await?;
    remove_directory(&places.container(id)).await?;
    if foreign {
        collect(&site.node, Some(id)).await;
    }
    site.node.images.release(id).await
}

/// Removes a bundle, from which everything is unmounted before.
///
/// # Errors
/// [`Fault::Internal`] with the path.
pub(crate) async fn remove_bundle(bundle: &Path) -> Result<(), Fault> {
    unmount(bundle).await?;
    remove_directory(bundle).await
}

/// Removes a directory with its content, if it is there.
///
/// # Errors
/// [`Fault::Internal`] with the path.
pub(crate) async fn remove_directory(directory: &Path) -> Result<(), Fault> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Fault::Internal(format!("removing {}: {error}", directory.display())))
        }
        _ => Ok(()),
    }
}
