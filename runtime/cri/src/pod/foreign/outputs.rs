//! Outputs of foreign containers: fifos in their bundles, which the pod's companion reads.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::request::StdioPaths;
use companion::{Companion, Error, Outputs, Request};

use crate::fault::Fault;
use crate::fifo;
use crate::pod::site::Site;
use crate::row::{Container, ContainerPhase};

/// Pause after a companion that can't be started.
const PAUSE: Duration = Duration::from_secs(1);

/// Most bytes of a line in a container's log; what is longer goes on in another.
const LINE: usize = 16_384;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Internal(error.to_string())
    }
}

/// The pod's companion, which may be gone.
pub(crate) fn companion(site: &Site) -> Companion {
    Companion::at(site.node.places.companion(&site.id))
}

/// Starts the pod's companion unless it lives, and hands it the outputs that there are.
///
/// # Errors
/// [`Fault::Internal`] with what failed.
pub(crate) async fn ensure(site: &Site) -> Result<Companion, Fault> {
    let companion = companion(site);
    if !companion.start(&site.node.programs.streams).await? {
        return Ok(companion);
    }
    let now = site.node.records.now();
    let of_pod = now.containers.values().filter(|row| row.pod == site.id);
    for row in of_pod.filter(|row| row.lives() || row.phase() == ContainerPhase::Exited) {
        let outputs = outputs(site, row);
        // A fifo whose container was deleted has no writer, and no end.
        if let Err(error) = companion.ask(&Request::Open(outputs)).await {
            log::warn!("container {}: its outputs: {error}", row.id);
        }
    }
    Ok(companion)
}

/// Starts another companion whenever one is gone, as long as the pod has its shim: containers stand
/// still when nobody takes their output.
pub(crate) async fn keep(site: &Site) {
    loop {
        companion(site).gone().await;
        if site.is_ending() || site.shim().is_err() {
            return;
        }
        log::warn!("pod {}: its companion is gone", site.id);
        if let Err(fault) = ensure(site).await {
            log::error!("pod {}: {fault}", site.id);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Makes the fifos of a container that comes to be, and hands them to the companion. Where the
/// streams are.
///
/// # Errors
/// [`Fault::Internal`] with what failed.
pub(crate) async fn open(site: &Site, row: &Container) -> Result<StdioPaths, Fault> {
    let bundle = site.node.places.bundle(&row.id);
    let config = row.config.clone().unwrap_or_default();
    let outputs = outputs(site, row);
    let stdin = config.stdin.then(|| bundle.join("stdin"));
    for path in [&stdin, &outputs.stdout, &outputs.stderr].into_iter().flatten() {
        make(path)
            .map_err(|error| Fault::Internal(format!("making {}: {error}", path.display())))?;
    }
    let text = |path: &Option<PathBuf>| {
        path.as_ref().map_or_else(String::new, |path| path.display().to_string())
    };
    let stdio = StdioPaths {
        stdin: text(&stdin),
        stdout: text(&outputs.stdout),
        stderr: text(&outputs.stderr),
        terminal: config.tty,
    };
    ensure(site).await?.ask(&Request::Open(outputs)).await?;
    Ok(stdio)
}

fn outputs(site: &Site, row: &Container) -> Outputs {
    let bundle = site.node.places.bundle(&row.id);
    let tty = row.config.as_ref().is_some_and(|config| config.tty);
    Outputs {
        id: row.id.clone(),
        stdout: Some(bundle.join("stdout")),
        stderr: (!tty).then(|| bundle.join("stderr")),
        log: Some(PathBuf::from(&row.log_path)).filter(|_| !row.log_path.is_empty()),
        longest: LINE,
    }
}

fn make(path: &Path) -> io::Result<()> {
    match fifo::make(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Waits until a container that has ended has all of its output in its log.
pub(crate) async fn drain(site: &Site, id: &str) {
    if let Err(error) = companion(site).ask(&Request::Drain { id: id.to_owned() }).await {
        log::warn!("container {id}: the rest of its output: {error}");
    }
}

/// Lets go of a container's outputs. A companion that is gone has none.
pub(crate) async fn close(site: &Site, id: &str) {
    if let Err(error) = companion(site).ask(&Request::Close { id: id.to_owned() }).await {
        log::debug!("container {id}: closing its outputs: {error}");
    }
}
