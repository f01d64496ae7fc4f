//! Attributes of a netlink message: 16-bit length and kind, then the value, padded to 4 bytes.

use std::collections::BTreeMap;

/// Bytes of length and kind.
const HEADER: usize = 4;

/// The two flags beside an attribute's kind (nested, byte order) say nothing that the kind does not.
const KIND_MASK: u16 = 0x3fff;

/// Attributes by kind. No kind that is used here comes twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes(BTreeMap<u16, Vec<u8>>);

impl Attributes {
    /// Reads attributes; `None` if a length is wrong.
    pub fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut all = BTreeMap::new();
        while bytes.len() >= HEADER {
            let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
            let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
            all.insert(kind & KIND_MASK, bytes.get(HEADER..length)?.to_vec());
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(Self(all))
    }

    /// The attributes as they are in a message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, value) in &self.0 {
            let length = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    /// The value of a kind.
    pub fn get(&self, kind: u16) -> Option<&[u8]> {
        self.0.get(&kind).map(Vec::as_slice)
    }

    /// The value of a kind that is a number in the host's byte order.
    pub fn number(&self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_ne_bytes)
    }

    /// The value of a kind that is a string, without the zero byte at its end.
    pub fn text(&self, kind: u16) -> Option<String> {
        let bytes = self.get(kind)?;
        let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8(bytes.to_vec()).ok()
    }

    /// The attributes within a nested one.
    pub fn nested(&self, kind: u16) -> Option<Self> {
        Self::parse(self.get(kind)?)
    }

    /// The same with one more, or another value.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.set(kind, value);
        self
    }

    /// The same with a number.
    #[must_use]
    pub fn with_number(self, kind: u16, value: u32) -> Self {
        self.with(kind, &value.to_ne_bytes())
    }

    /// The same with a string, which gets a zero byte at its end.
    #[must_use]
    pub fn with_text(self, kind: u16, value: &str) -> Self {
        self.with(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// The same with attributes within one.
    #[must_use]
    pub fn with_nested(self, kind: u16, value: &Self) -> Self {
        self.with(kind, &value.to_bytes())
    }

    /// Sets a value.
    pub fn set(&mut self, kind: u16, value: &[u8]) {
        self.0.insert(kind, value.to_vec());
    }

    /// Takes kinds out.
    pub fn remove(&mut self, kinds: &[u16]) {
        self.0.retain(|kind, _| !kinds.contains(kind));
    }

    /// Only these kinds.
    #[must_use]
    pub fn only(&self, kinds: &[u16]) -> Self {
        let kept = self.0.iter().filter(|(kind, _)| kinds.contains(kind));
        Self(kept.map(|(kind, value)| (*kind, value.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_both_ways_with_padding() {
        let given = Attributes::default().with_text(3, "eth0").with_number(4, 1400).with(5, &[7]);
        let bytes = given.to_bytes();
        assert_eq!(bytes.len(), 12 + 8 + 8);
        let read = Attributes::parse(&bytes).unwrap();
        assert_eq!(read, given);
        assert_eq!(read.text(3).as_deref(), Some("eth0"));
        assert_eq!((read.number(4), read.number(5)), (Some(1400), None));
    }

    #[test]
    fn flags_of_a_kind_are_dropped_and_bad_lengths_refused() {
        let nested = [[8, 0, 9, 0x80], 7_u32.to_ne_bytes()].concat();
        assert_eq!(Attributes::parse(&nested).unwrap().number(9), Some(7));
        assert_eq!(Attributes::parse(&[200, 0, 1, 0]), None);
        assert_eq!(Attributes::parse(&[2, 0, 1, 0]), None);
    }
}
