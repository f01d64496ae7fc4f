//! Conversions, and what the images hold.

use std::fs;
use std::io::Cursor;
use std::process::Command;

use erofs::Options;
use image::Digest;
use image::layer::{Expected, Layer, LayerError, convert};

use crate::reader::{Entry, Kind, Tree, read};
use crate::tar::{Item, archive};

/// What a manifest should say of these bytes.
pub(crate) fn expected(compressed: &[u8], archive: &[u8]) -> Expected {
    Expected {
        digest: Digest::of(compressed),
        size: compressed.len() as u64,
        diff_id: Some(Digest::of(archive)),
    }
}

/// The image of a layer, which must be one.
pub(crate) fn image(archive: &[u8]) -> (Vec<u8>, Layer) {
    let mut image = Vec::new();
    let output = Cursor::new(&mut image);
    let layer = convert(archive, &expected(archive, archive), output, Options::default());
    let layer = layer.unwrap_or_else(|error| panic!("{}", chain(&error)));
    fsck(&image);
    (image, layer)
}

/// The tree in the image of an archive.
pub(crate) fn tree_of(archive: &[u8]) -> Tree {
    read(&image(archive).0).unwrap()
}

/// The tree that these entries make.
pub(crate) fn tree(items: &[Item]) -> Tree {
    tree_of(&archive(items))
}

/// Why an archive is refused, with all causes.
pub(crate) fn refusal_of(archive: &[u8]) -> String {
    let output = Cursor::new(Vec::new());
    let refused = convert(archive, &expected(archive, archive), output, Options::default());
    chain(&refused.expect_err("this should be refused"))
}

/// Why these entries are refused, with all causes.
pub(crate) fn refusal(items: &[Item]) -> String {
    refusal_of(&archive(items))
}

/// An error and its causes.
pub(crate) fn chain(error: &LayerError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn fsck(image: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), image).unwrap();
    let output = Command::new("fsck.erofs").arg(file.path()).output().expect("fsck.erofs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// All paths but the root's.
pub(crate) fn names(tree: &Tree) -> Vec<&str> {
    tree.keys().skip(1).map(|path| str::from_utf8(path).unwrap()).collect()
}

pub(crate) fn entry<'a>(tree: &'a Tree, path: &str) -> &'a Entry {
    &tree.get(path.as_bytes()).unwrap_or_else(|| panic!("no {path} in {:?}", names(tree))).entry
}

/// The whole content of a file.
pub(crate) fn content(tree: &Tree, path: &str) -> Vec<u8> {
    let Kind::File { size, blocks } = &entry(tree, path).kind else { panic!("{path} is no file") };
    let mut content = vec![0; usize::try_from(*size).unwrap()];
    for (number, block) in blocks {
        let start = usize::try_from(number * 4096).unwrap();
        let len = block.len().min(content.len() - start);
        content[start..start + len].copy_from_slice(&block[..len]);
    }
    content
}

/// Overlayfs' attributes of a directory: `opaque` and `origin`.
pub(crate) fn overlay(tree: &Tree, path: &str) -> [Option<Vec<u8>>; 2] {
    let xattrs = &entry(tree, path).xattrs;
    [&b"trusted.overlay.opaque"[..], b"trusted.overlay.origin"]
        .map(|name| xattrs.get(name).cloned())
}
