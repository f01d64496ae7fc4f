//! All images at one moment. A view never changes, and reading it waits for nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::StoreError;
use super::image::Image;
use crate::digest::Digest;
use crate::reference::{ImageName, Reference};
use crate::text::quoted;

/// Fewest digits of a short id: fewer are more likely to be a name.
pub const MIN_PREFIX: usize = 4;

/// The images that are here.
#[derive(Debug, Default)]
pub struct View {
    images: BTreeMap<Digest, Arc<Image>>,
    names: BTreeMap<Reference, Arc<Image>>,
    hidden: Vec<Arc<Image>>,
}

impl View {
    pub(super) fn new(visible: Vec<Image>, hidden: Vec<Image>) -> Self {
        let visible: Vec<_> = visible.into_iter().map(Arc::new).collect();
        let named = |image: &Arc<Image>| {
            let names: Vec<_> = image.tags.iter().chain(&image.digests).cloned().collect();
            let image = image.clone();
            names.into_iter().map(move |name| (name, image.clone()))
        };
        Self {
            names: visible.iter().flat_map(named).collect(),
            images: visible.iter().map(|image| (image.id.clone(), image.clone())).collect(),
            hidden: hidden.into_iter().map(Arc::new).collect(),
        }
    }

    /// All images, in the order of their ids.
    pub fn images(&self) -> impl ExactSizeIterator<Item = &Arc<Image>> {
        self.images.values()
    }

    /// The image with this id.
    pub fn get(&self, id: &Digest) -> Option<&Arc<Image>> {
        self.images.get(id)
    }

    /// The image of this name: its tag, or its repository and manifest.
    pub fn named(&self, name: &Reference) -> Option<&Arc<Image>> {
        self.names.get(name)
    }

    /// The image that was pulled by this manifest, from whichever repository.
    pub fn of_manifest(&self, manifest: &Digest) -> Option<&Arc<Image>> {
        let same =
            |image: &&Arc<Image>| image.digests.iter().any(|name| name.digest() == Some(manifest));
        self.images.values().find(same)
    }

    /// The image that a user means: by its id, a manifest's digest, a name as people type it, or
    /// the first digits of its id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Ambiguous`], or [`StoreError::Name`] if the text
    /// can't be a name.
    pub fn find(&self, text: &str) -> Result<&Arc<Image>, StoreError> {
        let name = text.parse::<ImageName>();
        let found = match &name {
            Ok(ImageName::Id(digest)) => self.get(digest).or_else(|| self.of_manifest(digest)),
            Ok(ImageName::Reference(name)) => self.named(name),
            Err(_) => None,
        };
        let found = found.map_or_else(|| self.with_prefix(text), |image| Ok(Some(image)))?;
        match (found, name) {
            (Some(image), _) => Ok(image),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(_)) => Err(StoreError::NotFound { name: quoted(text) }),
        }
    }

    /// The images that a filter by name leaves: all, one or none.
    pub fn list(&self, filter: Option<&str>) -> Vec<Arc<Image>> {
        match filter {
            None => self.images.values().cloned().collect(),
            Some(text) => self.find(text).into_iter().cloned().collect(),
        }
    }

    /// The image whose id begins with these digits, perhaps after `sha256:`.
    fn with_prefix(&self, text: &str) -> Result<Option<&Arc<Image>>, StoreError> {
        let (algorithm, digits) = text.split_once(':').unwrap_or(("sha256", text));
        let hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() < MIN_PREFIX || !hex {
            return Ok(None);
        }
        let begins = |image: &&Arc<Image>| {
            image.id.algorithm().name() == algorithm && image.id.hex().starts_with(digits)
        };
        let mut found = self.images.values().filter(begins);
        match (found.next(), found.count()) {
            (first, 0) => Ok(first),
            (_, more) => Err(StoreError::Ambiguous { prefix: quoted(text), count: more + 1 }),
        }
    }

    /// The image with this id, also if it is removed and only kept for those who use it.
    pub(super) fn get_also_hidden(&self, id: &Digest) -> Option<&Arc<Image>> {
        self.get(id).or_else(|| self.hidden().find(|image| image.id == *id))
    }

    pub(super) fn hidden(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.hidden.iter()
    }
}
