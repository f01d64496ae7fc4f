//! What another process has told of an image, checked over the very bytes (pure).

use super::chain::{Chain, Step};
use super::{Fetched, Image};
use crate::digest::{Digest, Mismatch, Verifier};
use crate::manifest::{Blob, Document, ManifestError, Platform};
use crate::reference::Reference;

/// Something that is not so.
#[derive(Debug, thiserror::Error)]
pub enum Untrue {
    /// It is not what its name says.
    #[error("a document is another one: {0}")]
    Content(#[from] Mismatch),
    /// It is no document of an image.
    #[error("a document can't be used: {0}")]
    Document(#[from] ManifestError),
    /// It is not what was asked for.
    #[error("{0} came in place of {1}")]
    Other(Digest, Digest),
    /// It came before what leads to it, or after the last.
    #[error("a document was not asked for")]
    Order,
}

/// An image whose documents come one after the other.
#[derive(Debug)]
pub struct Checked<'a> {
    chain: Chain<'a>,
    /// The digest that is asked for, if one is.
    wanted: Option<Digest>,
    next: Option<Blob>,
    documents: Vec<Fetched>,
    manifest: Option<crate::manifest::Manifest>,
}

impl<'a> Checked<'a> {
    /// What a reference means for a platform.
    pub fn new(reference: &Reference, platform: &'a Platform) -> Self {
        Self {
            chain: Chain::new(platform),
            wanted: reference.digest().cloned(),
            next: None,
            documents: Vec::new(),
            manifest: None,
        }
    }

    /// Takes the next document, which must hash to `digest`.
    ///
    /// # Errors
    /// [`Untrue`].
    pub fn document(
        &mut self,
        digest: Digest,
        content_type: Option<String>,
        body: Vec<u8>,
    ) -> Result<(), Untrue> {
        if self.manifest.is_some() {
            return Err(Untrue::Order);
        }
        let size = self.next.as_ref().map(|blob| blob.size);
        let wanted = self.next.take().map(|blob| blob.digest).or_else(|| self.wanted.take());
        if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
            return Err(Untrue::Other(digest, wanted));
        }
        hashes(&digest, size, &body)?;
        let document = Document::parse(&body, content_type.as_deref())?;
        match self.chain.take(document.clone())? {
            Step::Next(blob) => self.next = Some(blob),
            Step::Manifest(manifest) => self.manifest = Some(manifest),
        }
        self.documents.push(Fetched { digest, content_type, body: body.into(), document });
        Ok(())
    }

    /// Takes the configuration: the image is whole then.
    ///
    /// # Errors
    /// [`Untrue`].
    pub fn config(self, text: Vec<u8>) -> Result<Image, Untrue> {
        let Self { chain, documents, manifest, .. } = self;
        let (manifest, first) = manifest.zip(documents.first()).ok_or(Untrue::Order)?;
        hashes(&manifest.config.digest, Some(manifest.config.size), &text)?;
        let config = chain.end(&manifest, &text)?;
        let digest = first.digest.clone();
        Ok(Image { digest, documents, manifest, config_text: text.into(), config })
    }
}

fn hashes(digest: &Digest, size: Option<u64>, bytes: &[u8]) -> Result<(), Mismatch> {
    let mut verifier = Verifier::new(digest.clone(), size);
    verifier.update(bytes)?;
    verifier.finish().map(drop)
}

#[cfg(test)]
mod tests;
