//! What the process that brings images tells the daemon. A registry may have taken it over.
//!
//! An input is frames, each behind a byte that says how many bytes it has, or stands for what an image
//! would be. Checked besides panics:
//! - Texts are short and do nothing to a terminal.
//! - A frame that is taken is the same once it is written and read again.
//! - An image that is believed is what its reference says, with all that leads to it.
//! - No allocation is larger than a few inputs.

use image::Digest;
use image::manifest::Platform;
use image::registry::Checked;
use image::worker::words::{self, MAX_FRAME, MAX_WORDS, Told};

use crate::{hostile, limits};

/// Most bytes of one allocation.
const LARGEST: usize = 1 << 20;

/// What follows in place of a frame.
const INDEX: u8 = 255;
const MANIFEST: u8 = 254;
const CONFIG: u8 = 253;

const EMPTY: &[u8] =
    br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

fn said(text: &str) {
    assert!(text.chars().count() <= MAX_WORDS + 1);
    for piece in text.chars().collect::<Vec<_>>().chunks(1000) {
        hostile::check(&piece.iter().collect::<String>());
    }
}

/// The frames of an input.
fn frames(mut input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&count, rest) = input.split_first()?;
        let length = if count < CONFIG { usize::from(count).min(rest.len()) } else { 0 };
        let (frame, rest) = rest.split_at(length);
        input = rest;
        Some((count, frame))
    })
}

/// A right manifest and an index of it.
fn right() -> (Vec<u8>, Vec<u8>) {
    let describe = |kind: &str, content: &[u8]| {
        let kind = format!("application/vnd.oci.image.{kind}.v1+json");
        serde_json::json!({"mediaType": kind, "digest": Digest::of(content), "size": content.len()})
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": describe("config", EMPTY), "layers": [],
    });
    let manifest = manifest.to_string().into_bytes();
    let index = serde_json::json!({
        "schemaVersion": 2, "manifests": [describe("manifest", &manifest)],
    });
    (index.to_string().into_bytes(), manifest)
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let head = input.get(..4).and_then(|head| head.try_into().ok()).unwrap_or_default();
    if let Ok(length) = words::length(head) {
        assert!(length as u64 <= MAX_FRAME);
    }
    limits::within(LARGEST, || image(input));
}

fn image(input: &[u8]) {
    let (index, manifest) = right();
    let wanted = Digest::of(&index);
    let reference: image::Reference = "registry.test/a:b".parse().unwrap();
    let reference = reference.with_digest(wanted.clone());
    let platform = Platform::guest();
    let mut checked = Checked::new(&reference, &platform);
    for (kind, frame) in frames(input) {
        let taken = match kind {
            INDEX => checked.document(wanted.clone(), None, index.clone()),
            MANIFEST => checked.document(Digest::of(&manifest), None, manifest.clone()),
            CONFIG => {
                if let Ok(image) = checked.config(EMPTY.to_vec()) {
                    assert_eq!((&image.digest, image.documents.len()), (&wanted, 2));
                    assert_eq!(image.manifest.config.digest, Digest::of(&image.config_text));
                }
                return;
            }
            _ => match told(frame) {
                Some(Told::Document(document)) => {
                    let words::Document { digest, content_type, body } = document;
                    checked.document(digest, content_type, body)
                }
                Some(Told::Config(text)) => {
                    if let Ok(image) = checked.config(text) {
                        assert_eq!(image.digest, wanted);
                    }
                    return;
                }
                _ => Ok(()),
            },
        };
        if let Err(error) = taken {
            return said(&error.to_string());
        }
    }
}

fn told(frame: &[u8]) -> Option<Told> {
    let told = match words::told(frame) {
        Ok(told) => told,
        Err(error) => {
            said(&error.to_string());
            return None;
        }
    };
    match &told {
        Told::Failed(failure) => said(&failure.text),
        Told::Warning(text) => said(text),
        _ => {
            let written = postcard::to_stdvec(&told).unwrap();
            assert_eq!(words::told(&written).unwrap(), told);
        }
    }
    if let Told::Found(found) = &told {
        assert_eq!(found.layers.len(), found.manifest.layers.len());
    }
    Some(told)
}
