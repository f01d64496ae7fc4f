//! How a caller of ours tells a shim of ours that a container sees an image (pure). The
//! configuration has a mount of a type of our own. Its layers become disks of the machine, as those
//! of a root file system.
//!
//! | option | meaning |
//! |---|---|
//! | `cuddy.layer=PATH` | an EROFS file on the host; the lowest layer first |
//! | `cuddy.subpath=PATH` | the directory of the image that is seen, without `..`; none: all |
//!
//! All other options are those of a bind mount.

use std::path::PathBuf;

/// The type of such a mount.
pub const TYPE: &str = "cuddy.image";

/// What errors about image volumes begin with.
pub const FAILED: &str = "mounting the image volume";

const LAYER: &str = "cuddy.layer=";
const SUB_PATH: &str = "cuddy.subpath=";

/// An image, or a part of one, that a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageVolume {
    /// The layers' files on the host, the lowest one first.
    pub layers: Vec<PathBuf>,
    /// The directory of the image that is seen; empty: its root.
    pub sub_path: String,
}

impl ImageVolume {
    /// The options that tell of it.
    pub fn options(&self) -> Vec<String> {
        let layers = self.layers.iter().map(|layer| format!("{LAYER}{}", layer.display()));
        let part = Some(&self.sub_path).filter(|part| !part.is_empty());
        layers.chain(part.map(|part| format!("{SUB_PATH}{part}"))).collect()
    }

    /// Takes it out of the options of a mount.
    pub fn take(options: &mut Vec<String>) -> Self {
        let mut volume = Self::default();
        options.retain(|option| {
            if let Some(layer) = option.strip_prefix(LAYER) {
                volume.layers.push(layer.into());
            } else if let Some(part) = option.strip_prefix(SUB_PATH) {
                part.clone_into(&mut volume.sub_path);
            } else {
                return true;
            }
            false
        });
        volume
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_taken() {
        let told =
            ImageVolume { layers: vec!["/l/1".into(), "/l/2".into()], sub_path: "a/b".into() };
        for told in [ImageVolume { sub_path: String::new(), ..told.clone() }, told] {
            let mut options = vec!["rbind".to_owned()];
            options.extend(told.options());
            options.push("ro".to_owned());
            assert_eq!(ImageVolume::take(&mut options), told);
            assert_eq!(options, ["rbind", "ro"]);
        }
        let mut none = vec!["rbind".to_owned()];
        assert_eq!(ImageVolume::take(&mut none), ImageVolume::default());
    }
}
