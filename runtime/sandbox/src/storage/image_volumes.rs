//! Images that a container sees beside its own. Their layers are disks of the machine, as those of a
//! root file system, and nothing can be written to them. A part of an image is found in the guest.
//! There the image's root is taken for that of the file system, so no link leads out.

use std::path::{Path, PathBuf};

use api::Error;
use api::image_volume::{FAILED, ImageVolume};
use machine::guest::GuestMount;
use oci_spec::runtime::Mount;

use super::disk_plan::DiskPlan;
use super::{Rootfs, Site};
use crate::spec::GuestSpec;

/// Where in the guest something of a container's images is.
fn place(site: &Site<'_>, name: &str) -> String {
    format!("{}/images/{}/{name}", agent_api::STATE_DIR, site.container)
}

impl Rootfs {
    /// Gives the guest the images that the container sees, and rewrites `guest` to where they are.
    /// An image that is seen twice comes once.
    pub(super) async fn show_images(
        &mut self,
        guest: &mut GuestSpec,
        site: &Site<'_>,
    ) -> Result<(), Error> {
        let mut known: Vec<(&[PathBuf], String)> = Vec::new();
        for (number, image) in guest.images.iter().enumerate() {
            let ImageVolume { layers, sub_path } = &image.volume;
            let whole = match known.iter().find(|(of, _)| *of == layers.as_slice()) {
                Some((_, whole)) => whole.clone(),
                None => {
                    let mounted = self.mount_image(number, layers, site).await;
                    let whole = mounted.map_err(|error| at(&image.destination, error))?;
                    known.push((layers, whole.clone()));
                    whole
                }
            };
            let seen = match sub_path.is_empty() {
                true => whole,
                false => {
                    let mounted = self.mount_part(number, &whole, sub_path, site).await;
                    mounted.map_err(|error| at(&image.destination, error))?
                }
            };
            guest.spec.edit(&format!("/mounts/{}", image.mount), |mount: &mut Mount| {
                mount.set_source(Some(seen.into()));
            })?;
        }
        Ok(())
    }

    /// Mounts all layers and joins them; where the result is.
    async fn mount_image(
        &mut self,
        number: usize,
        layers: &[PathBuf],
        site: &Site<'_>,
    ) -> Result<String, Error> {
        let mut lower = Vec::new();
        for (layer, path) in layers.iter().enumerate() {
            let plan = DiskPlan {
                source: path.clone(),
                fstype: "erofs".into(),
                options: vec!["ro".into()],
                parts: Vec::new(),
                read_only: true,
            };
            let mount_point = place(site, &format!("{number}-{layer}"));
            let mount = GuestMount { mount_point: mount_point.clone(), ..GuestMount::default() };
            self.add_disk(&plan, mount, site).await?;
            lower.push(mount_point);
        }
        match lower.len() {
            0 => return Err(Error::Invalid("it has no layers".into())),
            // An overlay to which nothing can be written has two layers at least.
            1 => lower.insert(0, self.mount_nothing(number, site).await?),
            _ => {}
        }
        let layers = lower.iter().rev().map(|layer| format!("lowerdir+={layer}"));
        let options = layers.chain(["ro".to_owned()]).collect();
        let fstype = "overlay".to_owned();
        let mount_point = place(site, &number.to_string());
        self.mount(GuestMount { mount_point, fstype, options, ..GuestMount::default() }, site).await
    }

    /// Mounts an empty file system.
    async fn mount_nothing(&mut self, number: usize, site: &Site<'_>) -> Result<String, Error> {
        let options = ["ro", "size=4096", "mode=755"].map(str::to_owned).to_vec();
        let fstype = "tmpfs".to_owned();
        let mount_point = place(site, &format!("{number}-nothing"));
        self.mount(GuestMount { mount_point, fstype, options, ..GuestMount::default() }, site).await
    }

    /// Mounts a directory of an image once more.
    async fn mount_part(
        &mut self,
        number: usize,
        whole: &str,
        sub_path: &str,
        site: &Site<'_>,
    ) -> Result<String, Error> {
        let options = vec![format!("source={whole}"), format!("path={sub_path}")];
        let fstype = "bind".to_owned();
        let mount_point = place(site, &format!("{number}-part"));
        self.mount(GuestMount { mount_point, fstype, options, ..GuestMount::default() }, site).await
    }

    async fn mount(&mut self, mount: GuestMount, site: &Site<'_>) -> Result<String, Error> {
        site.live.guest.mount(&mount).await?;
        self.mounted.push(mount.mount_point.clone());
        Ok(mount.mount_point)
    }
}

/// An error that says which volume it is about.
fn at(destination: &Path, error: Error) -> Error {
    let tell = |text: String| format!("{FAILED} at {}: {text}", destination.display());
    match error {
        Error::Invalid(text) => Error::Invalid(tell(text)),
        Error::Failed(text) => Error::Failed(tell(text)),
        error => error,
    }
}
