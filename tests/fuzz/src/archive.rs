//! Archives of images that are imported. An input is an archive byte by byte, or files with names
//! that layouts have.
//!
//! Checked besides panics:
//! - Errors are short and do nothing to a terminal.
//! - What is found has as many layers as its configuration, and each is a file of the archive.
//! - No allocation is much larger than the largest document that is read.

use std::error::Error;
use std::io::Write;

use arbitrary::{Arbitrary, Unstructured};
use image::Digest;
use image::archive::{self, ArchiveError, Contents};
use image::manifest::Platform;

use crate::{hostile, limits, stage};

/// Most bytes of one allocation: a buffer for reading, or a document in memory that doubles.
const LARGEST: usize = 8 << 20;

#[derive(Debug, Arbitrary)]
enum Name {
    Index,
    Manifest,
    /// Where a layout has what the content hashes to.
    Blob,
    Any(String),
}

#[derive(Debug, Arbitrary)]
struct Member {
    kind: u8,
    name: Name,
    target: String,
    content: Vec<u8>,
    patch: Option<(u16, u8)>,
}

impl Member {
    fn bytes(&self) -> Vec<u8> {
        let name = match &self.name {
            Name::Index => "index.json".to_owned(),
            Name::Manifest => "manifest.json".to_owned(),
            Name::Blob => format!("blobs/sha256/{}", Digest::of(&self.content).hex()),
            Name::Any(name) => name.clone(),
        };
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &name.as_bytes()[..name.len().min(100)]);
        put(100, b"0000644\0000000000\0000000000\0");
        put(124, format!("{:011o}\0{:011o}", self.content.len(), 0).as_bytes());
        put(156, &[b"00000125SxgLK"[usize::from(self.kind) % 13]]);
        put(157, &self.target.as_bytes()[..self.target.len().min(100)]);
        put(257, b"ustar\x0000");
        if let Some((at, byte)) = self.patch {
            put(usize::from(at) % 512, &[byte]);
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let mut bytes = [&header[..], &self.content].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

fn said(error: &ArchiveError) {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        hostile::check(&error.to_string());
        cause = error.source();
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut bytes = Vec::new();
    match input.split_first() {
        Some((0, rest)) => bytes.extend(rest),
        Some((_, rest)) => {
            let mut rest = Unstructured::new(rest);
            while let Ok(member) = Member::arbitrary(&mut rest) {
                bytes.extend(member.bytes());
                if rest.is_empty() {
                    break;
                }
            }
        }
        None => return,
    }
    let mut file = stage::anonymous(0);
    file.write_all(&bytes).unwrap();
    limits::within(LARGEST, || {
        let contents = match Contents::of_file(&file) {
            Ok(contents) => contents,
            Err(error) => return said(&error),
        };
        match archive::images(&contents, &Platform::guest()) {
            Ok(found) => {
                assert!(!found.is_empty() && found.len() <= archive::MAX_IMAGES);
                for image in found {
                    assert_eq!(image.config.diff_ids.len(), image.layers.len());
                    assert_eq!(image.manifest.layers.len(), image.layers.len());
                }
            }
            Err(error) => said(&error),
        }
    });
}
