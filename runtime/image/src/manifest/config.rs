//! An image's configuration: what it runs, and what its layers are when uncompressed.

use oci_spec::image::ImageConfiguration;

use super::platform::Platform;
use super::{MAX_CONFIG_BYTES, Manifest, ManifestError, bounded, json};
use crate::digest::Digest;
use crate::text::quoted;

/// The configuration of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// The digests of the layers' tar archives, the lowest one first: as many as the manifest has
    /// layers.
    pub diff_ids: Vec<Digest>,
    /// What the image is for.
    pub platform: Platform,
    /// All that it says.
    pub oci: ImageConfiguration,
}

impl ImageConfig {
    /// Parses the configuration that `manifest` names. The bytes' digest was checked before.
    ///
    /// # Errors
    /// [`ManifestError`] also if it has not as many layers as the manifest.
    pub fn parse(body: &[u8], manifest: &Manifest) -> Result<Self, ManifestError> {
        bounded("configuration", body, MAX_CONFIG_BYTES)?;
        let oci: ImageConfiguration = json("configuration", body)?;
        let rootfs = oci.rootfs();
        if rootfs.typ() != "layers" {
            let reason = format!("its root file system is of type {}", quoted(rootfs.typ()));
            return Err(ManifestError::Json { what: "configuration", reason });
        }
        let (layers, diff_ids) = (manifest.layers.len(), rootfs.diff_ids().len());
        if layers != diff_ids {
            return Err(ManifestError::DiffIds { layers, diff_ids });
        }
        let invalid = |source| ManifestError::Digest { what: "layer of the configuration", source };
        let diff_ids = rootfs.diff_ids().iter().map(|digest| digest.parse().map_err(invalid));
        let diff_ids = diff_ids.collect::<Result<_, _>>()?;
        let (os, architecture) = (oci.os().to_string(), oci.architecture().to_string());
        let variant = oci.variant().as_deref().unwrap_or_default();
        let platform = Platform::new(&os, &architecture, variant)
            .with_features(oci.os_features().clone().unwrap_or_default());
        Ok(Self { diff_ids, platform, oci })
    }
}
