//! One mount that the interface asks for.

use std::path::PathBuf;

use api::image_volume;
use oci_spec::runtime::Mount;
use protocol::cri::{Mount as Asked, MountPropagation};

use super::super::SpecError;
use super::super::error::shown;
use super::super::input::{ContainerInput, ImagePlace, Propagation};
use super::{absolute, maps};

/// How far a container's root takes part in mounts of the host, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Follows {
    /// It sees what the host mounts later.
    Host,
    /// The host sees what it mounts, too.
    Both,
}

impl Follows {
    /// OCI's word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Host => "rslave",
            Self::Both => "rshared",
        }
    }
}

/// What is mounted, and what it asks of the root.
///
/// # Errors
/// [`SpecError`] names the place.
pub(super) fn mount(
    asked: &Asked,
    input: &ContainerInput<'_>,
) -> Result<(Mount, Option<Follows>), SpecError> {
    let place = absolute(&asked.container_path).filter(|place| place.parent().is_some());
    let place = place.ok_or_else(|| bad(asked, "no absolute path below the root"))?;
    let mut layers = None;
    let (source, follows) = match asked.image {
        Some(_) => match of_image(asked, input)? {
            ImagePlace::Host(path) => (Some(path), None),
            ImagePlace::Layers(files) => {
                let sub_path = asked.image_sub_path.clone();
                layers = Some(image_volume::ImageVolume { layers: files, sub_path });
                (None, None)
            }
        },
        None => of_host(asked, input).map(|(path, follows)| (Some(path), follows))?,
    };
    let mut options = vec!["rbind".to_owned()];
    options.push(follows.map_or("rprivate", Follows::word).to_owned());
    options.push(access(asked, input, follows)?.to_owned());
    for option in &asked.mount_options {
        if !["noexec", "nodev", "nosuid"].contains(&option.as_str()) {
            let reason =
                format!("mount option \"{}\" is none of noexec, nodev, nosuid", shown(option));
            return Err(bad(asked, &reason));
        }
        if !options.contains(option) {
            options.push(option.clone());
        }
    }
    if asked.uid_mappings.is_empty() != asked.gid_mappings.is_empty() {
        return Err(bad(asked, "uidMappings and gidMappings need each other"));
    }
    let kind = if layers.is_some() { image_volume::TYPE } else { "bind" };
    options.extend(layers.iter().flat_map(image_volume::ImageVolume::options));
    let mut mount = Mount::default();
    mount.set_destination(place).set_typ(Some(kind.to_owned()));
    mount.set_source(source).set_options(Some(options));
    mount.set_uid_mappings(maps(&asked.uid_mappings));
    mount.set_gid_mappings(maps(&asked.gid_mappings));
    Ok((mount, follows))
}

/// The path on the host, and how the mount takes part in others.
fn of_host(
    asked: &Asked,
    input: &ContainerInput<'_>,
) -> Result<(PathBuf, Option<Follows>), SpecError> {
    let written = absolute(&asked.host_path).ok_or_else(|| bad(asked, "no absolute host path"))?;
    let Ok(propagation) = MountPropagation::try_from(asked.propagation) else {
        return Err(bad(asked, &format!("propagation {} is unknown", asked.propagation)));
    };
    let found = input.found.sources.get(&asked.host_path);
    let host = found.map(|found| found.propagation);
    let not = |kind: &str| {
        let path = shown(&asked.host_path);
        bad(asked, &format!("path \"{path}\" is on a mount that is not a {kind} mount"))
    };
    let follows = match (propagation, host) {
        (MountPropagation::PropagationPrivate, _) => None,
        (MountPropagation::PropagationHostToContainer, Some(Propagation::Private)) => {
            return Err(not("shared or slave"));
        }
        (MountPropagation::PropagationHostToContainer, _) => Some(Follows::Host),
        (MountPropagation::PropagationBidirectional, None | Some(Propagation::Shared)) => {
            Some(Follows::Both)
        }
        (MountPropagation::PropagationBidirectional, _) => return Err(not("shared")),
    };
    Ok((found.map_or(written, |found| found.path.clone()), follows))
}

/// Where an image, or a part of it, is.
fn of_image(asked: &Asked, input: &ContainerInput<'_>) -> Result<ImagePlace, SpecError> {
    let image = asked.image.as_ref().map_or("", |image| &image.image);
    let bad = |reason: &str| SpecError::ImageVolume {
        image: shown(image),
        path: shown(&asked.container_path),
        reason: shown(reason),
    };
    if image.is_empty() {
        return Err(bad("no image is named"));
    }
    if !asked.host_path.is_empty() {
        return Err(bad("it has a host path as well"));
    }
    if !asked.readonly {
        return Err(bad("it has to be read-only"));
    }
    let sub_path = asked.image_sub_path.as_str();
    let outside = sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..");
    if outside || sub_path.contains('\0') {
        return Err(bad(&format!("sub-path \"{sub_path}\" is not below the image's root")));
    }
    let mut known = input.found.image_volumes.iter();
    let found = known.find(|known| known.image == image && known.sub_path == sub_path);
    match found.map(|found| &found.place) {
        Some(Ok(place)) => Ok(place.clone()),
        Some(Err(reason)) => Err(bad(reason)),
        None => Err(bad("the image is not on this node")),
    }
}

/// How the container may write there.
fn access(
    asked: &Asked,
    input: &ContainerInput<'_>,
    follows: Option<Follows>,
) -> Result<&'static str, SpecError> {
    let path = || shown(&asked.container_path);
    match (asked.readonly, asked.recursive_read_only) {
        (false, false) => Ok("rw"),
        (true, false) => Ok("ro"),
        (false, true) => Err(bad(asked, "recursively read-only, but not read-only")),
        (true, true) if !input.handler.recursive_read_only => Err(SpecError::RecursiveReadOnly {
            path: path(),
            reason: "the runtime handler does not support recursive read-only mounts",
        }),
        (true, true) if follows.is_some() => {
            Err(bad(asked, "a recursively read-only mount needs private propagation"))
        }
        (true, true) => Ok("rro"),
    }
}

fn bad(asked: &Asked, reason: &str) -> SpecError {
    SpecError::Mount { path: shown(&asked.container_path), reason: reason.to_owned() }
}
