//! Makes a container: its disks, its configuration, and its process, which waits.

mod identity;
mod input;
mod volumes;

use std::io;
use std::path::{Path, PathBuf};

use api::request::{CreateRequest, Mount, StdioPaths};
use protocol::cri::{ContainerConfig, LinuxContainerUser};
use shim_client::Shim;

use super::remove::from_shim;
use super::remove_files;
use crate::clock;
use crate::fault::Fault;
use crate::fifo;
use crate::ids;
use crate::images::Held;
use crate::pod::fact::{Fact, Rows};
use crate::pod::foreign::outputs;
use crate::pod::handle::NewContainer;
use crate::pod::handle::{Answer, Pod};
use crate::pod::site::Site;
use crate::pod::watch;
use crate::restart;
use crate::row::{Container, ContainerPhase};
use crate::spec;
use volumes::Volumes;

/// Most bytes of a line in a container's log; what is longer goes on in another.
const LINE: usize = 16_384;

/// Name of the disk that a container writes to, in its directory.
const DISK: &str = "upper.ext4";

pub(super) async fn run(pod: &Pod, rows: &Rows, new: NewContainer) -> Answer {
    let id = ids::new().map_err(|error| Fault::Internal(format!("making an id: {error}")))?;
    let shim = pod.site.shim()?;
    let spec = new.config.image.clone().unwrap_or_default();
    let held = pod.site.node.images.hold(&spec.image, &id).await?;
    let volumes = volumes::hold(&pod.site.node.images, &new.config, &id).await;
    let making = Making { id: &id, new: &new, held: &held, volumes: &volumes };
    let made = match make(pod, &shim, rows, making).await {
        Ok(user) => pod.tell(Fact::Created(id.clone(), clock::now(), user)).await,
        Err(fault) => Err(fault),
    };
    match made {
        Ok(()) => {
            watch::container(pod.clone(), shim, id.clone());
            Ok(id)
        }
        Err(fault) => {
            undo(pod, &id).await;
            Err(fault)
        }
    }
}

/// A container that comes to be.
#[derive(Clone, Copy)]
struct Making<'a> {
    id: &'a str,
    new: &'a NewContainer,
    held: &'a Held,
    volumes: &'a Volumes,
}

async fn make(
    pod: &Pod,
    shim: &Shim,
    rows: &Rows,
    making: Making<'_>,
) -> Result<LinuxContainerUser, Fault> {
    let Making { id, new, held, volumes } = making;
    restart::Policy::of(&new.config)?;
    let image = held.config.config().clone().unwrap_or_default();
    let (signal, note) = spec::stop_signal(&new.config, &image).map_err(refused)?;
    let log_path = log_path(new);
    let row = Container {
        id: id.to_owned(),
        pod: pod.site.id.clone(),
        config: Some(new.config.clone()),
        phase: ContainerPhase::Creating.into(),
        image_id: held.id.clone(),
        log_path: log_path.clone(),
        stop_signal: u32::try_from(signal.number()).unwrap_or(15),
        image_volumes: volumes.ids.clone(),
        ..Container::default()
    };
    pod.tell(Fact::Creating(Box::new(row.clone()))).await?;
    let places = &pod.site.node.places;
    let (bundle, directory) = (places.bundle(id), places.container(id));
    for path in [&bundle, &directory] {
        tokio::fs::create_dir(path).await.map_err(|error| failed("making", path, &error))?;
    }
    let own = pod.site.class.is_own();
    let disk = directory.join(DISK);
    match own {
        true => pod.site.node.disks.make(&disk, pod.site.node.settings.container_disk).await?,
        false => {
            pod.site.node.roots.mount(&held.layers, &directory, &bundle.join("rootfs")).await?
        }
    }
    let spec = input::spec(pod, shim, &rows.pod, making).await?;
    for note in note.iter().chain(&spec.notes) {
        log::info!("container {id}: {note}");
    }
    let path = bundle.join("config.json");
    let text = serde_json::to_vec(&spec.spec)
        .map_err(|error| Fault::Internal(format!("writing {}: {error}", path.display())))?;
    tokio::fs::write(&path, text).await.map_err(|error| failed("writing", &path, &error))?;
    let (stdio, rootfs) = match own {
        true => {
            let stdio = stdio(&new.config, &bundle, &log_path);
            if !stdio.stdin.is_empty() {
                let fifo = Path::new(&stdio.stdin);
                fifo::make(fifo).map_err(|error| failed("making", fifo, &error))?;
            }
            (stdio, rootfs(&held.layers, &disk))
        }
        false => (outputs::open(&pod.site, &row).await?, Vec::new()),
    };
    let request = CreateRequest { id: ids::of_container(id)?, bundle, rootfs, stdio };
    let created = shim.create(&request, pod.site.class.options.as_ref()).await;
    created.map_err(|error| volumes::fault(Fault::from(error)))?;
    identity::told(shim, id, &spec.spec).await
}

/// What the shim is asked for when a container's process is to be started again: its files are
/// there.
///
/// # Errors
/// [`Fault::NotFound`] when its image is gone.
pub(super) async fn request_again(
    site: &Site,
    rows: &Rows,
    id: &str,
) -> Result<CreateRequest, Fault> {
    let missing = || Fault::NotFound(format!("container {id} or its image is gone"));
    let row = rows.row(id).ok_or_else(missing)?;
    let layers = site.node.images.layers(&row.image_id, id).ok_or_else(missing)?;
    let (bundle, disk) = (site.node.places.bundle(id), site.node.places.container(id).join(DISK));
    let (stdio, rootfs) = match site.class.is_own() {
        true => {
            let config = row.config.clone().unwrap_or_default();
            (stdio(&config, &bundle, &row.log_path), rootfs(&layers, &disk))
        }
        false => {
            // The outputs of the process before have ended.
            outputs::close(site, id).await;
            (outputs::open(site, row).await?, Vec::new())
        }
    };
    Ok(CreateRequest { id: ids::of_container(id)?, bundle, rootfs, stdio })
}

/// Leaves nothing of it. What can't be undone now is undone with the pod.
async fn undo(pod: &Pod, id: &str) {
    // The shim mostly does not have it.
    if let Err(fault) = from_shim(&pod.site, id).await {
        log::warn!("container {id}: {fault}");
    }
    let removed = remove_files(&pod.site, id).await;
    let undone = match removed {
        Ok(()) => pod.tell(Fact::NotCreated(id.to_owned())).await,
        left => left,
    };
    if let Err(fault) = undone {
        log::error!("container {id}: undoing its creation: {fault}");
    }
}

fn refused(error: spec::SpecError) -> Fault {
    let text = error.to_string();
    match error {
        spec::SpecError::RecursiveReadOnly { .. } | spec::SpecError::ImageVolume { .. } => {
            Fault::Unknown(text)
        }
        _ => Fault::InvalidArgument(text),
    }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Fault {
    Fault::Internal(format!("{doing} {}: {error}", path.display()))
}

/// Where the log is to be; empty: none is asked for.
fn log_path(new: &NewContainer) -> String {
    let (directory, file) = (&new.pod.log_directory, &new.config.log_path);
    match directory.is_empty() || file.is_empty() {
        true => String::new(),
        false => Path::new(directory).join(file).display().to_string(),
    }
}

/// Where the streams go: to the log, which the shim writes.
fn stdio(config: &ContainerConfig, bundle: &Path, log_path: &str) -> StdioPaths {
    let output = match log_path.is_empty() {
        true => "discard://".to_owned(),
        false => format!("cri-log://{log_path}?max={LINE}"),
    };
    let stdin = bundle.join("stdin");
    StdioPaths {
        stdin: if config.stdin { stdin.display().to_string() } else { String::new() },
        stderr: if config.tty { String::new() } else { output.clone() },
        stdout: output,
        terminal: config.tty,
    }
}

/// The root file system, as containerd names disks: the one to write to first, then the layers from
/// the top, and how they lie over each other (pure).
fn rootfs(layers: &[PathBuf], disk: &Path) -> Vec<Mount> {
    let mount = |fstype: &str, source: String, options: &[&str]| Mount {
        fstype: fstype.to_owned(),
        source,
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    };
    let mut mounts =
        vec![mount("ext4", disk.display().to_string(), &["rw", "noinit_itable", "discard"])];
    mounts.extend(
        layers.iter().rev().map(|layer| mount("erofs", layer.display().to_string(), &["ro"])),
    );
    let lower = format!("lowerdir={{{{ overlay 1 {} }}}}", layers.len());
    let options = ["upperdir={{ mount 0 }}/upper", "workdir={{ mount 0 }}/work", &lower];
    mounts.push(mount("format/mkdir/overlay", "overlay".to_owned(), &options));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_lie_over_each_other_with_the_disk_on_top() {
        let mounts = rootfs(&["/l/1".into(), "/l/2".into()], Path::new("/c/upper.ext4"));
        let sources: Vec<_> = mounts.iter().map(|mount| mount.source.as_str()).collect();
        assert_eq!(sources, ["/c/upper.ext4", "/l/2", "/l/1", "overlay"]);
        assert_eq!(mounts[3].options[2], "lowerdir={{ overlay 1 2 }}");
    }
}
