//! What a container's configuration is made of: the host is asked here, and nothing decided.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shim_client::Shim;

use super::{Making, volumes};
use crate::apparmor;
use crate::fault::Fault;
use crate::pod::foreign::input;
use crate::pod::handle::NewContainer;
use crate::pod::handle::Pod;
use crate::pod::site::Site;
use crate::row;
use crate::spec::{self, ContainerInput, ContainerSpec, Found, Source};

/// How long the host may take to say what is at the paths of a container's mounts: a volume's file
/// system may hang, and then only its pod does.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes the configuration.
///
/// # Errors
/// [`Fault::InvalidArgument`] for what can't be carried out; [`Fault::DeadlineExceeded`] when the
/// host does not answer.
pub(super) async fn spec(
    pod: &Pod,
    shim: &Shim,
    row: &row::Pod,
    making: Making<'_>,
) -> Result<ContainerSpec, Fault> {
    let (site, Making { id, new, held, .. }) = (&pod.site, making);
    let found = found(site, &making).await?;
    let mut node = input::facts(site);
    let (pids, paths) = match site.class.is_own() {
        true => Default::default(),
        false => (input::pids(site, shim, &new.config).await?, input::paths(site)),
    };
    if !site.class.is_own() {
        node.apparmor = apparmor::with_default().await;
    }
    let config = row.config.clone().unwrap_or_default();
    let input = ContainerInput {
        pod: &config,
        pod_id: &row.id,
        pod_pid: pids.pod,
        container: &new.config,
        container_id: id,
        target_pid: pids.target,
        image: &held.config,
        paths: &paths,
        handler: &site.class.handler,
        node: &node,
        found: &found,
    };
    spec::container(&input).map_err(super::refused)
}

async fn found(site: &Site, making: &Making<'_>) -> Result<Found, Fault> {
    let Making { id, new, volumes: images, .. } = *making;
    let mut image_volumes = images.found.clone();
    let linux = new.config.linux.clone().unwrap_or_default();
    let sources = sources(new).await?;
    let seccomp_profile = input::profile(&linux.security_context.unwrap_or_default()).await?;
    let root = site.node.places.bundle(id).join("rootfs");
    let of_node = match site.class.is_own() {
        true => Found::default(),
        false => input::found(&new.config, root).await?,
    };
    if !site.class.is_own() {
        volumes::mount(site, id, &mut image_volumes).await?;
    }
    Ok(Found { sources, image_volumes, seccomp_profile, ..of_node })
}

/// What is at the host paths of the mounts. One that does not exist is made a directory, as
/// containerd does.
async fn sources(new: &NewContainer) -> Result<BTreeMap<String, Source>, Fault> {
    let mut paths: Vec<_> = new.config.mounts.iter().map(|mount| mount.host_path.clone()).collect();
    paths.retain(|path| !path.is_empty());
    let looked = tokio::task::spawn_blocking(move || {
        // proc_pid_mountinfo(5), once for all of them.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let found = paths.into_iter().map(|path| Ok((path.clone(), source(&path, &mounts)?)));
        found.collect::<Result<BTreeMap<_, _>, Fault>>()
    });
    match tokio::time::timeout(LIMIT, looked).await {
        Ok(found) => found.map_err(|error| Fault::Internal(error.to_string()))?,
        Err(_) => {
            let paths: Vec<_> = new.config.mounts.iter().map(|mount| &*mount.host_path).collect();
            let text =
                format!("no answer for {LIMIT:?} of the file systems of {}", paths.join(", "));
            Err(Fault::DeadlineExceeded(text))
        }
    }
}

fn source(path: &str, mounts: &str) -> Result<Source, Fault> {
    let failed =
        |error: std::io::Error| Fault::InvalidArgument(format!("mount of {path}: {error}"));
    let resolved = match std::fs::canonicalize(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path).map_err(failed)?;
            std::fs::canonicalize(path)
        }
        resolved => resolved,
    };
    let path = resolved.map_err(failed)?;
    let propagation = propagation(&path, mounts);
    Ok(Source { path, propagation })
}

/// How the mount that a path is in takes part in others, by the table of mounts (pure).
fn propagation(path: &Path, mounts: &str) -> spec::Propagation {
    let mut best: (usize, spec::Propagation) = (0, spec::Propagation::Private);
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let Some(point) = fields.nth(4).map(PathBuf::from) else { continue };
        let depth = point.components().count();
        if !path.starts_with(&point) || depth < best.0 {
            continue;
        }
        let tags: Vec<_> = fields.skip(1).take_while(|field| *field != "-").collect();
        let has = |tag: &str| tags.iter().any(|field| field.starts_with(tag));
        let kind = match (has("shared:"), has("master:")) {
            (true, _) => spec::Propagation::Shared,
            (false, true) => spec::Propagation::Slave,
            (false, false) => spec::Propagation::Private,
        };
        best = (depth, kind);
    }
    best.1
}
