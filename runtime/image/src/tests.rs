//! What the tests share: inputs by chance, the same in each run, and archives.

use std::io::Write as _;

use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

/// A tar archive of files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let entries = files.iter().map(|(path, content)| (EntryType::Regular, *path, "", *content));
    tar_of(&entries.collect::<Vec<_>>())
}

/// A tar archive of entries: type, path, target of a link, content.
pub(crate) fn tar_of(entries: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, path, target, content) in entries {
        let mut entry = EntryBuilder::new_gnu();
        entry.path(path.as_bytes()).link_name(target.as_bytes());
        entry.entry_type(*kind).mode(0o644).unwrap().size(content.len() as u64).unwrap();
        bytes.extend(entry.finish_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A source of inputs.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// Up to `most` characters of an alphabet.
    pub(crate) fn text(&mut self, alphabet: &str, most: usize) -> String {
        let letters: Vec<_> = alphabet.chars().collect();
        (0..self.below(most + 1)).map(|_| letters[self.below(letters.len())]).collect()
    }

    /// The text with a few of its bytes changed, doubled or left out.
    pub(crate) fn damaged(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, bytes[at]),
                _ => bytes[at] = self.pick(&[b"\"", b"{", b"}", b"-", b"\\", b"\xff", b"9"])[0],
            }
        }
        bytes
    }
}
