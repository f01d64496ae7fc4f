//! Indexes and manifests: small, read as a whole, and checked over the very bytes that came.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use reqwest::Response;

use super::fault::{Failures, Fault};
use super::host::{Host, Wanted};
use super::wire::{self, Read};
use super::{Pull, RegistryError};
use crate::digest::{Digest, Verifier};
use crate::manifest::{self, Document, MAX_MANIFEST_BYTES, ManifestError};
use crate::reference::{Object, Reference};
use crate::text::quoted;

/// Where a registry says what a tag means.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A document as a registry has it.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Its name, which the bytes were checked against.
    pub digest: Digest,
    /// The header `Content-Type`, if it can be read.
    pub content_type: Option<String>,
    /// The very bytes.
    pub body: Bytes,
    /// What they say.
    pub document: Document,
}

/// Asks one server after another for a document. Those that may do better are asked again.
pub(super) async fn fetch(
    pull: &Pull,
    reference: &Reference,
    size: Option<u64>,
) -> Result<Fetched, RegistryError> {
    let mut failures = Failures::default();
    let mut hosts = pull.candidates(reference.tag().is_some());
    for round in 0..pull.patience.rounds {
        let mut again = Vec::new();
        let mut wait = None;
        for host in hosts {
            let fault = match from(pull, &host, reference, size).await {
                Ok(document) => return Ok(document),
                Err(fault) => fault,
            };
            let passing = fault.is_passing();
            wait = wait.max(fault.wait().filter(|_| passing));
            failures.note(&host.endpoint().host, fault);
            again.extend(passing.then_some(host));
        }
        if again.is_empty() || round + 1 == pull.patience.rounds {
            break;
        }
        hosts = again;
        tokio::time::sleep(pull.patience.pause(round, wait)).await;
    }
    Err(RegistryError::Servers { what: reference.to_string(), failures })
}

async fn from(
    pull: &Pull,
    host: &Host,
    reference: &Reference,
    size: Option<u64>,
) -> Result<Fetched, Fault> {
    let accept = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(manifest::ACCEPT))]);
    let got = async {
        let response = host.get(pull, Wanted::Manifest(reference), &accept).await?;
        read(pull, response, reference, size).await
    };
    let got = got.await;
    let doubtful = matches!(got, Err(Fault::Lie(_) | Fault::Unreachable(_) | Fault::Untrusted(_)));
    host.doubtful.store(doubtful, Ordering::Relaxed);
    got
}

async fn read(
    pull: &Pull,
    response: Response,
    reference: &Reference,
    size: Option<u64>,
) -> Result<Fetched, Fault> {
    let large = |size| {
        let (what, limit) = ("manifest", MAX_MANIFEST_BYTES);
        Fault::Document(ManifestError::TooLarge { what, size, limit })
    };
    if let Some(size) = response.content_length().filter(|size| *size > MAX_MANIFEST_BYTES) {
        return Err(large(size));
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.map(str::to_owned);
    let digest = digest(response.headers(), reference)?;
    let Read { bytes: body, cut } =
        wire::read(&pull.patience, response, MAX_MANIFEST_BYTES).await?;
    if cut {
        return Err(large(body.len() as u64));
    }
    let digest = digest.unwrap_or_else(|| Digest::of(&body));
    let mut verifier = Verifier::new(digest.clone(), size);
    verifier.update(&body)?;
    verifier.finish()?;
    let document = Document::parse(&body, content_type.as_deref()).map_err(Fault::Document)?;
    Ok(Fetched { digest, content_type, body, document })
}

/// What the bytes must hash to: the digest that is asked for, or what the registry says that a tag
/// means. None: it says nothing.
fn digest(headers: &HeaderMap, reference: &Reference) -> Result<Option<Digest>, Fault> {
    if let Object::Digest(digest) = reference.object() {
        return Ok(Some(digest.clone()));
    }
    let Some(value) = headers.get(CONTENT_DIGEST) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let wrong = |_| Fault::Lie(format!("it says that the tag means {}", quoted(text)));
    text.parse().map(Some).map_err(wrong)
}
