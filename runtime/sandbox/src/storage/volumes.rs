//! Bind mounts of a container: files and directories are shown in the shared directory, memory
//! and devices become the guest's own.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::Error;
use host::mounts::table::{self, Mounted};
use host::mounts::{Options, Share, Tree};
use machine::guest::GuestMount;
use oci_spec::runtime::Mount;
use rustix::mount::MountFlags;

use super::disk::{self, Disk};
use super::later_mounts::{Follower, Volume};
use super::pod_volumes::Place;
use super::{Rootfs, Site, memory};
use crate::blocking::blocking;
use crate::spec::{self, Bind, GuestSpec, ReadOnly};
use crate::storage::devices;

/// Character devices that every Linux has under the same number (kernel's `admin-guide/devices`):
/// the guest's own takes the place of the host's.
const COMMON: [(u32, u32, &str); 9] = [
    (1, 3, "/dev/null"),
    (1, 5, "/dev/zero"),
    (1, 7, "/dev/full"),
    (1, 8, "/dev/random"),
    (1, 9, "/dev/urandom"),
    (1, 11, "/dev/kmsg"),
    (5, 0, "/dev/tty"),
    (10, 200, "/dev/net/tun"),
    (10, 229, "/dev/fuse"),
];

/// How the guest gets at a volume.
enum Shown {
    /// Where the configuration says already, in the shared directory.
    Shared,
    /// There too, but only the host knows which parts of it are read-only.
    Partly,
    /// At a place in the shared directory that other containers may have as well.
    Once(Arc<Place>),
    /// At a path of the guest.
    At(String),
}

impl Rootfs {
    /// Gives the container all that `guest` says it sees of the host, and rewrites `guest` to
    /// where that is.
    ///
    /// # Errors
    /// [`Error::Invalid`] when something does not exist or can't be given to a guest.
    pub(crate) async fn show(
        &mut self,
        guest: &mut GuestSpec,
        bundle: &Path,
        site: Site<'_>,
    ) -> Result<(), Error> {
        for bind in &guest.binds {
            let shown = self.show_one(bind, bundle, site, &mut guest.notes).await?;
            let places = &mut self.places;
            guest.spec.edit(
                &format!("/mounts/{}", bind.mount),
                |mount: &mut Mount| match shown {
                    Shown::Shared => spec::forget_ids(mount),
                    Shown::Partly => {
                        spec::forget_ids(mount);
                        make_writable(mount);
                    }
                    Shown::Once(place) => {
                        spec::forget_ids(mount);
                        mount.set_source(Some(place.guest_path()));
                        places.push(place);
                    }
                    Shown::At(path) => {
                        mount.set_source(Some(path.into()));
                    }
                },
            )?;
        }
        self.show_images(guest, &site).await?;
        memory::share_shm(&mut guest.spec, site).await?;
        let disks = devices::attach(&mut guest.spec, &mut guest.notes, site.live).await;
        let (disks, outcome) = disks;
        self.disks.extend(disks);
        outcome
    }

    async fn show_one(
        &mut self,
        bind: &Bind,
        bundle: &Path,
        site: Site<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Shown, Error> {
        let source = bundle.join(&bind.source);
        let name = source.display();
        let metadata = look(&source).await?;
        let kind = metadata.file_type();
        if kind.is_block_device() {
            let read_only = bind.read_only != ReadOnly::Nothing;
            let file = disk::open(&source, read_only).await?;
            let bare = GuestMount::default();
            let disk = Disk::attach(file, read_only, &bare, site.live).await?;
            let node = disk.guest.node.clone();
            self.disks.push(disk);
            return Ok(Shown::At(node));
        }
        if kind.is_char_device() {
            return own_device(&source, &metadata).map(Shown::At);
        }
        if kind.is_socket() || kind.is_fifo() {
            let what = if kind.is_socket() { "socket" } else { "fifo" };
            notes.push(format!("{what} {name} of the host is seen, but nobody answers there"));
        } else if let Some(path) = memory::show(bind, &source, site).await? {
            return Ok(Shown::At(path));
        }
        let (bind, state) = (bind.clone(), site.state.clone());
        let (container, share) = (site.container.clone(), site.live.share.clone());
        let volumes = Arc::clone(site.volumes);
        let doing = format!("bind mount of {}", source.display());
        let what = doing.clone();
        let work = move || {
            let failed = |error: io::Error| Error::failed(&doing, &error);
            let directory = metadata.is_dir();
            let source = source.canonicalize().map_err(failed)?;
            let table = table::read().map_err(failed)?;
            // What is mounted below it goes with each container's own mount.
            if directory && !bind.follows && !has_parts(&bind, &source, &table) {
                let shown = volumes.show(&bind, &source, &state, &share).map_err(failed)?;
                return Ok((Shown::Once(shown), None));
            }
            let name = Path::new("mounts").join(bind.mount.to_string());
            let target = state.mount_point(&container, &name, directory).map_err(failed)?;
            let target = Target { share, path: target, directory };
            attach(&bind, source, table, target).map_err(failed)
        };
        let (shown, followed) = blocking(&what, work).await?;
        if let Some(followed) = followed {
            let doing = format!("following the mounts below {}", followed.source().display());
            let follower = Follower::new(followed).map_err(|e| Error::failed(&doing, &e))?;
            self.followers.push(follower);
        }
        Ok(shown)
    }
}

async fn look(source: &Path) -> Result<Metadata, Error> {
    let doing = format!("bind mount of {}", source.display());
    let (source, what) = (source.to_owned(), doing.clone());
    let look = move || {
        std::fs::metadata(&source).map_err(|error| Error::Invalid(format!("{what}: {error}")))
    };
    blocking(&doing, look).await
}

/// Whether a bind mount takes mounts below its source with it.
fn has_parts(bind: &Bind, source: &Path, table: &[Mounted]) -> bool {
    bind.recursive && table::below(table, source).next().is_some()
}

/// A place in the shared directory.
struct Target {
    share: Arc<Share>,
    path: PathBuf,
    /// Whether a directory is shown there, not a file.
    directory: bool,
}

/// Shows a file or directory at `target`, and returns what is to be shown of it later.
fn attach(
    bind: &Bind,
    source: PathBuf,
    table: Vec<Mounted>,
    target: Target,
) -> io::Result<(Shown, Option<Volume>)> {
    let Target { share, path, directory } = target;
    let mut options = Options::parse(&[]);
    options.recursive = bind.recursive;
    options.ids.clone_from(&bind.ids);
    options.all_read_only = bind.read_only == ReadOnly::All;
    options.flags.set(MountFlags::RDONLY, bind.read_only != ReadOnly::Nothing);
    share.attach(Tree::of(&source, &options)?, &path)?;
    let parts = bind.follows || has_parts(bind, &source, &table);
    let by_the_host = bind.read_only == ReadOnly::Itself && parts;
    let followed = (bind.follows && directory).then(|| {
        let known = if bind.recursive { table } else { Vec::new() };
        let read_only = options.all_read_only;
        Volume::new(source, share, path, &known, read_only)
    });
    Ok((if by_the_host { Shown::Partly } else { Shown::Shared }, followed))
}

/// The guest's own device in place of a common one of the host.
fn own_device(source: &Path, metadata: &Metadata) -> Result<String, Error> {
    let numbers = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let own = COMMON.iter().find(|(major, minor, _)| (*major, *minor) == numbers);
    own.map(|(_, _, path)| (*path).to_owned()).ok_or_else(|| {
        Error::Invalid(format!(
            "bind mount of {}: the guest has no such device (character device {}:{})",
            source.display(),
            numbers.0,
            numbers.1
        ))
    })
}

/// In the guest a volume is one mount, whatever is mounted in it on the host: the host alone
/// refuses to write where that is not allowed.
fn make_writable(mount: &mut Mount) {
    for option in mount.options_mut().iter_mut().flatten().filter(|option| *option == "ro") {
        *option = "rw".into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::Document;

    #[test]
    fn common_devices_are_the_guests_and_no_others() {
        let device = |path: &str| {
            let path = Path::new(path);
            own_device(path, &std::fs::metadata(path).unwrap())
        };
        assert_eq!(device("/dev/null").unwrap(), "/dev/null");
        let error = device("/dev/ptmx").unwrap_err().to_string();
        assert!(error.contains("/dev/ptmx") && error.contains("5:2"), "{error}");
    }

    #[test]
    fn only_the_word_for_read_only_changes() {
        let mount = |word: &str| json!({"mounts": [{"destination": "/a", "options": ["rbind", word, "nosuid"], "new": 1}]});
        let mut spec = Document::from(mount("ro"));
        spec.edit("/mounts/0", make_writable).unwrap();
        assert_eq!(spec, mount("rw").into());
    }
}
