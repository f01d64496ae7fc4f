//! Carries out a plan of layers: disks of the machine, an overlay in the guest.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use api::Error;
use machine::guest::{GuestDirectory, GuestMount};

use super::disk::{self, Disk};
use super::disk_plan::DiskPlan;
use super::layers::{DiskPath, Join, Layers, Upper};
use super::{Rootfs, Site};
use crate::blocking::blocking;

/// Most bytes that a container may write to its root filesystem if the snapshotter leaves that
/// open. The image is sparse: the host stores what is written.
const UPPER_BYTES: u64 = 16 << 30;

/// The image's name in the overlay's work directory on the host, which goes with the snapshot.
const UPPER_IMAGE: &str = "cuddy-upper.ext4";

/// Where in the guest disk `name` of a container is mounted.
fn mount_point(site: &Site<'_>, name: &str) -> String {
    format!("{}/layers/{}/{name}", agent_api::STATE_DIR, site.container)
}

impl Rootfs {
    /// Gives the guest a disk with a filesystem, mounted at `mount_point`.
    pub(super) async fn add_disk(
        &mut self,
        plan: &DiskPlan,
        mount: GuestMount,
        site: &Site<'_>,
    ) -> Result<(), Error> {
        let mut mount =
            GuestMount { fstype: plan.fstype.clone(), options: plan.options.clone(), ..mount };
        for part in &plan.parts {
            let file = disk::open(part, true).await?;
            let bare = GuestMount::default();
            let disk = Disk::attach(file, true, &bare, site.live).await?;
            mount.options.push(format!("device={}", disk.guest.node));
            self.disks.push(disk);
        }
        let file = disk::open(&plan.source, plan.read_only).await?;
        let disk = Disk::attach(file, plan.read_only, &mount, site.live).await?;
        self.disks.push(disk);
        Ok(())
    }

    /// Gives the guest all layers and joins them; where the result is.
    pub(super) async fn join(&mut self, layers: &Layers, site: &Site<'_>) -> Result<String, Error> {
        for (number, plan) in layers.disks.iter().enumerate() {
            let directories = directories_in(number, &layers.join);
            let mount_point = mount_point(site, &number.to_string());
            let mount = GuestMount { mount_point, directories, ..GuestMount::default() };
            self.add_disk(plan, mount, site).await?;
        }
        let place = |at: &DiskPath| mount_point(site, &at.disk.to_string()) + &at.path;
        let (lower, upper, more) = match &layers.join {
            Join::Directory(at) => return Ok(place(at)),
            Join::Overlay { lower, upper, options } => (lower, upper, options),
        };
        let mut options: Vec<String> =
            lower.iter().map(|layer| format!("lowerdir+={}", place(layer))).collect();
        let written = match upper {
            Upper::None => None,
            Upper::Disk { upper, work } => Some((place(upper), place(work))),
            Upper::Host { upper, work } => {
                let point = self.add_upper(upper, work, site).await?;
                Some((format!("{point}/upper"), format!("{point}/work")))
            }
        };
        match written {
            Some((upper, work)) => {
                options.extend([format!("upperdir={upper}"), format!("workdir={work}")]);
            }
            None => options.push("ro".into()),
        }
        options.extend(more.iter().cloned());
        let mount_point = mount_point(site, "root");
        let fstype = "overlay".to_owned();
        let mount = GuestMount { mount_point, fstype, options, ..GuestMount::default() };
        site.live.guest.mount(&mount).await?;
        self.mounted.push(mount.mount_point.clone());
        Ok(mount.mount_point)
    }

    /// Makes a disk for what directories of the host were meant for; where the guest has it.
    async fn add_upper(
        &mut self,
        upper: &Path,
        work: &Path,
        site: &Site<'_>,
    ) -> Result<String, Error> {
        let doing = format!("overlay directory {}", upper.display());
        let (directory, what) = (upper.to_owned(), doing.clone());
        let look = move || {
            directory.metadata().map_err(|error| Error::Invalid(format!("{what}: {error}")))
        };
        let root = blocking(&doing, look).await?;
        let image = work.join(UPPER_IMAGE);
        make_image(&image).await?;
        let plan = DiskPlan {
            source: image,
            fstype: "ext4".into(),
            // The tables of a sparse image stay holes until they are used.
            options: vec!["noinit_itable".into()],
            parts: Vec::new(),
            read_only: false,
        };
        let owner = (root.uid(), root.gid());
        let mode = root.mode() & 0o7777;
        let directories = vec![
            GuestDirectory { path: "upper".into(), mode, owner },
            GuestDirectory { path: "work".into(), mode: 0o700, owner: (0, 0) },
        ];
        let mount_point = mount_point(site, "upper");
        let mount = GuestMount { mount_point, directories, ..GuestMount::default() };
        let point = mount.mount_point.clone();
        self.add_disk(&plan, mount, site).await?;
        Ok(point)
    }
}

/// Directories that the join needs in a disk and that may be missing.
fn directories_in(disk: usize, join: &Join) -> Vec<GuestDirectory> {
    let (upper, work) = match join {
        Join::Directory(at) => (Some(at), None),
        Join::Overlay { upper: Upper::Disk { upper, work }, .. } => (Some(upper), Some(work)),
        Join::Overlay { .. } => (None, None),
    };
    let here = |at: &&DiskPath| at.disk == disk && !at.path.is_empty();
    let directory = |at: &DiskPath| GuestDirectory {
        path: at.path.trim_start_matches('/').to_owned(),
        mode: 0o755,
        owner: (0, 0),
    };
    [upper, work].into_iter().flatten().filter(here).map(directory).collect()
}

/// Makes an empty filesystem in a sparse file, in place of one from an earlier attempt: that one
/// has no journal, and nobody knows whether it was left in order.
async fn make_image(image: &Path) -> Result<(), Error> {
    let path = image.to_owned();
    let doing = format!("making {}", image.display());
    let what = doing.clone();
    blocking(&doing, move || empty(&path).map_err(|error| Error::failed(&what, &error))).await?;
    host::ext4::format(image).await
}

/// Makes the sparse file. A new one, not the same once more: a machine that is about to end may
/// still write to the old one.
fn empty(image: &Path) -> std::io::Result<()> {
    if let Some(directory) = image.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::remove_file(image) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::create_new(image)?.set_len(UPPER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_attempt_left_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("work").join(UPPER_IMAGE);
        empty(&image).unwrap();
        std::fs::write(&image, "left").unwrap();
        let left = File::open(&image).unwrap();
        empty(&image).unwrap();
        let length = |file: &File| file.metadata().unwrap().len();
        assert_eq!(length(&File::open(&image).unwrap()), UPPER_BYTES);
        assert_eq!(length(&left), 4);
    }
}
