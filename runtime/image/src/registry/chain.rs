//! From what a reference means to the image of one platform (pure). The process that asks goes this
//! way, and so does the daemon with what that process has told.

use crate::manifest::{
    Blob, Document, ImageConfig, MAX_INDEX_DEPTH, Manifest, ManifestError, Platform,
};

/// How far it is.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    platform: &'a Platform,
    indexes: usize,
    /// Whether an index says that the image is for the platform.
    named: bool,
}

/// What a document leads to.
#[derive(Debug)]
pub(super) enum Step {
    /// Another document.
    Next(Blob),
    /// It is the last one.
    Manifest(Manifest),
}

impl<'a> Chain<'a> {
    pub(super) fn new(platform: &'a Platform) -> Self {
        Self { platform, indexes: 0, named: false }
    }

    /// Takes the next document.
    pub(super) fn take(&mut self, document: Document) -> Result<Step, ManifestError> {
        let index = match document {
            Document::Manifest(manifest) => return Ok(Step::Manifest(manifest)),
            Document::Index(index) => index,
        };
        self.indexes += 1;
        if self.indexes > MAX_INDEX_DEPTH {
            let what = "indexes that name each other";
            let (found, limit) = (self.indexes, MAX_INDEX_DEPTH);
            return Err(ManifestError::TooMany { what, found, limit });
        }
        let choice = index.choose(self.platform)?;
        self.named |= choice.platform_is_named;
        Ok(Step::Next(choice.blob))
    }

    /// Takes the manifest's configuration.
    pub(super) fn end(
        &self,
        manifest: &Manifest,
        config: &[u8],
    ) -> Result<ImageConfig, ManifestError> {
        let config = ImageConfig::parse(config, manifest)?;
        if !self.named && self.platform.runs(&config.platform).is_none() {
            let offered =
                format!("it is for {}", crate::text::line(&config.platform.to_string(), 40));
            return Err(ManifestError::NoPlatform { wanted: self.platform.to_string(), offered });
        }
        Ok(config)
    }
}
