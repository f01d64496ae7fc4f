//! Extended attributes (`struct erofs_xattr_entry`).
//!
//! All are kept behind their inode, none is shared. Names have no order there; ours are sorted, so
//! that the same set makes the same bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::{Error, shown};

const TRUSTED: u8 = 4;

/// Prefixes of names, and what stands for them in the image.
const PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", TRUSTED), (b"security.", 6)];

/// Names that are known as a whole. The kernel reads their values by `posix_acl_from_xattr`: they
/// are those of getxattr(2), not ext4's shorter form.
const WHOLE: [(&[u8], u8); 2] = [(b"system.posix_acl_access", 2), (b"system.posix_acl_default", 3)];

/// Overlayfs' attributes of directories, without their prefix.
const OPAQUE: &[u8] = b"overlay.opaque";
const ORIGIN: &[u8] = b"overlay.origin";

/// Longest name in bytes, with its prefix (Linux's `XATTR_NAME_MAX`).
const MAX_NAME: usize = 255;

/// Header of the attributes behind an inode (`struct erofs_xattr_ibody_header`), in bytes.
const HEADER: usize = 12;

/// Header of one attribute, and the alignment of all, in bytes.
const ENTRY: usize = 4;

/// Most bytes of one inode's attributes: 16 bits count units of 4 bytes, and the two that
/// [`with_overlay`] may add need 40.
const MAX_BYTES: usize = (u16::MAX as usize - 1) * ENTRY - 40;

/// The extended attributes of one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xattrs {
    /// Values by index of the prefix and rest of the name.
    all: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
    /// Bytes that they take in the image.
    bytes: usize,
}

impl Xattrs {
    /// Adds an attribute, or gives it another value.
    ///
    /// `name` is whole: `user.…`, `trusted.…`, `security.…`, `system.posix_acl_access` or
    /// `system.posix_acl_default`. EROFS has no others. `value` is what getxattr(2) returns; it may
    /// have zero bytes. It has at most 65 535 bytes, one less than Linux allows elsewhere. All
    /// attributes of an entry together have less than 256 KiB.
    ///
    /// # Errors
    /// [`Error::Xattr`]; the attributes are as before.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let error = |reason| Error::Xattr { name: shown(name), reason };
        if name.len() > MAX_NAME {
            return Err(error("has a name of more than 255 bytes"));
        }
        if name.contains(&0) {
            return Err(error("has a zero byte in its name"));
        }
        if value.len() > usize::from(u16::MAX) {
            return Err(error("has a value of more than 65535 bytes"));
        }
        let key = split(name).ok_or_else(|| error("has a name that EROFS can't keep"))?;
        let old = self.all.get(&key).map_or(0, |value| entry_size(&key.1, value));
        let bytes = self.bytes - old + entry_size(&key.1, value);
        if bytes > MAX_BYTES {
            return Err(error("is one too many: all together have more than 256 KiB"));
        }
        self.bytes = bytes;
        self.all.insert(key, value.to_vec());
        Ok(())
    }

    /// Takes out what the writer itself decides for directories, `trusted.overlay.opaque` and
    /// `trusted.overlay.origin`. Whether the first said that the directory is opaque.
    pub(crate) fn take_overlay(&mut self) -> bool {
        let mut take = |name: &[u8]| {
            let value = self.all.remove(&(TRUSTED, name.to_vec()))?;
            self.bytes -= entry_size(name, &value);
            Some(value)
        };
        take(ORIGIN);
        take(OPAQUE).is_some_and(|value| value == b"y")
    }

    /// The attributes one after the other, as they are in the image.
    pub(crate) fn encode(&self) -> Box<[u8]> {
        let mut bytes = Vec::with_capacity(self.bytes);
        for ((index, name), value) in &self.all {
            push(&mut bytes, *index, name, value);
        }
        bytes.into_boxed_slice()
    }
}

/// The index of a name's prefix, and the rest of the name.
fn split(name: &[u8]) -> Option<(u8, Vec<u8>)> {
    if let Some((_, index)) = WHOLE.iter().find(|(whole, _)| *whole == name) {
        return Some((*index, Vec::new()));
    }
    let after =
        |(prefix, index): &(&[u8], u8)| Some((*index, name.strip_prefix(*prefix)?.to_vec()));
    PREFIXES.iter().find_map(after).filter(|(_, rest)| !rest.is_empty())
}

fn entry_size(name: &[u8], value: &[u8]) -> usize {
    (ENTRY + name.len() + value.len()).next_multiple_of(ENTRY)
}

/// Appends an attribute. Both lengths fit: [`Xattrs::set`] has looked.
fn push(bytes: &mut Vec<u8>, index: u8, name: &[u8], value: &[u8]) {
    bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    bytes.push(index);
    bytes.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(name);
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(ENTRY), 0);
}

/// A directory's attributes with those that overlayfs wants.
///
/// The empty origin of a directory with whiteouts makes overlayfs look at each name. Without it a
/// directory of a single layer is listed as it is, and shows the whiteouts as devices (Linux commit
/// b79e05aaa166).
pub(crate) fn with_overlay(entries: &[u8], opaque: bool, whiteouts: bool) -> Cow<'_, [u8]> {
    let mut all = Cow::Borrowed(entries);
    if opaque {
        push(all.to_mut(), TRUSTED, OPAQUE, b"y");
    }
    if whiteouts {
        push(all.to_mut(), TRUSTED, ORIGIN, b"");
    }
    all
}

/// Bytes behind an inode with these attributes.
pub(crate) fn body_size(entries: &[u8]) -> usize {
    if entries.is_empty() { 0 } else { HEADER + entries.len() }
}

/// `i_xattr_icount`: units of 4 bytes, where the header counts as one; 0: there is no header.
pub(crate) fn count(entries: &[u8]) -> u16 {
    let units = if entries.is_empty() { 0 } else { 1 + entries.len() / ENTRY };
    u16::try_from(units).unwrap_or(u16::MAX)
}

/// The header: no filter of names, no shared attribute.
pub(crate) fn header(entries: &[u8]) -> &'static [u8] {
    if entries.is_empty() { &[] } else { &[0; HEADER] }
}

/// Attributes as they are in the image, without their header, by whole names; sorted by these. None:
/// they make no sense.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut all = BTreeMap::new();
    while !bytes.is_empty() {
        let [name, index, low, high] = *bytes.first_chunk::<ENTRY>()?;
        let (name, value) = (usize::from(name), usize::from(u16::from_le_bytes([low, high])));
        let end = ENTRY + name + value;
        let whole = [prefix(index)?, bytes.get(ENTRY..ENTRY + name)?].concat();
        let value = bytes.get(ENTRY + name..end)?.to_vec();
        all.insert(whole, value);
        bytes = bytes.get(end.next_multiple_of(ENTRY)..)?;
    }
    Some(all.into_iter().collect())
}

/// What an index stands for.
fn prefix(index: u8) -> Option<&'static [u8]> {
    let all = PREFIXES.iter().chain(&WHOLE);
    all.copied().find(|(_, known)| *known == index).map(|(prefix, _)| prefix)
}

#[cfg(test)]
mod tests;
