//! Archives byte by byte, also such as no tool makes.

/// An entry, or a header of any kind.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) kind: u8,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) content: Vec<u8>,
    /// What the header says of the content; as it is by default.
    pub(crate) size: Option<i128>,
    pub(crate) mode: u32,
    pub(crate) ids: [i128; 2],
    pub(crate) mtime: i128,
    pub(crate) device: [u32; 2],
    /// Records of a PAX header before it.
    pub(crate) pax: Vec<(String, Vec<u8>)>,
    /// Magic and version.
    pub(crate) magic: [u8; 8],
    /// Bytes of the header to overwrite: where, and with what.
    pub(crate) patch: Vec<(usize, Vec<u8>)>,
    /// What follows the header, before the content.
    pub(crate) behind: Vec<u8>,
}

pub(crate) const USTAR: [u8; 8] = *b"ustar\x0000";
pub(crate) const GNU: [u8; 8] = *b"ustar  \0";
pub(crate) const OLD: [u8; 8] = [0; 8];

pub(crate) fn item(kind: u8, path: &str) -> Item {
    Item {
        kind,
        path: path.into(),
        link: Vec::new(),
        content: Vec::new(),
        size: None,
        mode: 0o644,
        ids: [0, 0],
        mtime: 0,
        device: [0, 0],
        pax: Vec::new(),
        magic: USTAR,
        patch: Vec::new(),
        behind: Vec::new(),
    }
}

pub(crate) fn file(path: &str, content: &[u8]) -> Item {
    Item { content: content.to_vec(), ..item(b'0', path) }
}

pub(crate) fn directory(path: &str) -> Item {
    Item { mode: 0o755, ..item(b'5', path) }
}

pub(crate) fn symlink(path: &str, target: &str) -> Item {
    Item { mode: 0o777, link: target.into(), ..item(b'2', path) }
}

pub(crate) fn hard_link(path: &str, target: &str) -> Item {
    Item { link: target.into(), ..item(b'1', path) }
}

impl Item {
    pub(crate) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    pub(crate) fn gnu(self) -> Self {
        Self { magic: GNU, ..self }
    }

    fn header(&self) -> [u8; 512] {
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.path[..self.path.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        let [uid, gid] = self.ids;
        put(108, &number(uid, 8));
        put(116, &number(gid, 8));
        let size = self.size.unwrap_or((self.content.len() + self.inside()) as i128);
        put(124, &number(size, 12));
        put(136, &number(self.mtime, 12));
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, &self.magic);
        if self.magic != OLD {
            put(329, format!("{:07o}", self.device[0]).as_bytes());
            put(337, format!("{:07o}", self.device[1]).as_bytes());
        }
        for (at, bytes) in &self.patch {
            put(*at, bytes);
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header
    }

    /// What follows the header is a part of the content in format 1.0 of sparse files.
    fn inside(&self) -> usize {
        if self.kind == b'S' { 0 } else { self.behind.len() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.pax.is_empty() {
            let content = self.pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            bytes.extend(Item { content, ..item(b'x', "PaxHeaders/x") }.bytes());
        }
        if self.path.len() > 100 && self.pax.is_empty() {
            bytes.extend(long(b'L', &self.path));
        }
        if self.link.len() > 100 && self.pax.is_empty() {
            bytes.extend(long(b'K', &self.link));
        }
        bytes.extend(self.header());
        bytes.extend(&self.behind);
        bytes.extend(&self.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

fn long(kind: u8, text: &[u8]) -> Vec<u8> {
    let content = [text, b"\0"].concat();
    Item { content, magic: GNU, ..item(kind, "././@LongLink") }.bytes()
}

fn number(value: i128, len: usize) -> Vec<u8> {
    let octal = format!("{value:0digits$o}", digits = len - 1);
    if value >= 0 && octal.len() < len {
        return octal.into_bytes();
    }
    let mut bytes = value.to_be_bytes()[16 - len..].to_vec();
    bytes[0] |= 0x80;
    bytes
}

pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let len = (1..9).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap();
    [(rest.len() + len).to_string().as_bytes(), &rest].concat()
}

/// An archive with these entries and an end.
pub(crate) fn archive(items: &[Item]) -> Vec<u8> {
    let mut bytes: Vec<u8> = items.iter().flat_map(Item::bytes).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}
