//! The images that a container has as volumes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use protocol::cri::ContainerConfig;

use crate::fault::{Fault, blocking};
use crate::foreign::files;
use crate::images::Images;
use crate::pod::site::Site;
use crate::spec::{ImagePlace, ImageVolume};

/// Images that are held for a container.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    /// For its configuration, also those that are not here.
    pub(super) found: Vec<ImageVolume>,
    /// Their ids by what was asked for.
    pub(super) ids: HashMap<String, String>,
}

/// Holds all images that mounts name. Which is not here is told with the configuration.
pub(super) async fn hold(images: &Images, config: &ContainerConfig, container: &str) -> Volumes {
    let mut volumes = Volumes::default();
    for mount in &config.mounts {
        let Some(image) = mount.image.as_ref().map(|image| &image.image) else { continue };
        let place = match images.hold_volume(image, container).await {
            Ok((id, layers)) => {
                volumes.ids.insert(image.clone(), id);
                Ok(ImagePlace::Layers(layers))
            }
            Err(fault) => Err(fault.to_string()),
        };
        let (image, sub_path) = (image.clone(), mount.image_sub_path.clone());
        volumes.found.push(ImageVolume { image, sub_path, place });
    }
    volumes
}

/// Mounts the images on the node, for a container that runs there. A sub-path that is not in its
/// image is told with the configuration.
///
/// # Errors
/// [`Fault::Internal`] for an image that can't be mounted.
pub(super) async fn mount(
    site: &Site,
    container: &str,
    volumes: &mut [ImageVolume],
) -> Result<(), Fault> {
    let bundle = site.node.places.bundle(container);
    for (number, volume) in volumes.iter_mut().enumerate() {
        let Ok(ImagePlace::Layers(layers)) = &volume.place else { continue };
        let at = files::image_volume(&bundle, number);
        site.node.roots.mount_volume(layers, &at).await?;
        let part = volume.sub_path.clone();
        let found = blocking("finding a part of an image", move || below(&at, &part)).await?;
        volume.place = found.map(ImagePlace::Host);
    }
    Ok(())
}

/// A directory of an image that is mounted at `root`.
fn below(root: &Path, part: &str) -> Result<PathBuf, String> {
    let path = if part.is_empty() { "." } else { part };
    overlay::directory_below(root, path).map_err(|error| format!("sub-path \"{part}\": {error}"))
}

/// What the shim said, as a kubelet looks for it if it is about such a volume.
pub(super) fn fault(fault: Fault) -> Fault {
    let text = fault.to_string();
    match text.contains(api::image_volume::FAILED) {
        true => Fault::Unknown(format!("ImageVolumeMountFailed: {text}")),
        false => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelet_finds_its_word_where_an_image_volume_failed() {
        let text = "mounting the image volume at /data: no such directory".to_owned();
        let told = fault(Fault::Internal(text));
        assert!(
            matches!(&told, Fault::Unknown(text) if text.starts_with("ImageVolumeMountFailed: "))
        );
        let other = Fault::Internal("no memory".to_owned());
        assert_eq!(fault(other.clone()), other);
    }
}
