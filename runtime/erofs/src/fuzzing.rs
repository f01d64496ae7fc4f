//! Any calls, checked against a model: for tests and the fuzzer `erofs`.
//!
//! [`run`] makes calls from any bytes, gives them to a [`Writer`] and to a [`Model`], and reads the
//! image back by [`read`]. Both trees must be the same. The reader shares no code with the writer.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a test of tests, where every failure ends the test"
)]

// A test takes this file by its path as well, where these would be looked for beside it.
#[path = "fuzzing/model.rs"]
mod model;
#[path = "fuzzing/reader.rs"]
mod reader;

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use arbitrary::{Arbitrary, Unstructured};

use crate::{Error, Layout, Limits, Meta, Mtime, Options, Special, Summary, Writer, Xattrs};

pub use model::{Described, Model};
pub use reader::{Entry, Found, Kind, Tree, read};

/// Most bytes of an image.
const IMAGE: u64 = 64 << 20;

/// A path of few names, so that paths meet often.
#[derive(Debug, Arbitrary)]
struct Path {
    depth: u8,
    parts: [u8; 3],
    any: Vec<u8>,
}

impl Path {
    fn bytes(&self) -> Vec<u8> {
        let part = |part: &u8| match part % 16 {
            0 => b".".to_vec(),
            1 => b"..".to_vec(),
            2 => Vec::new(),
            3 => self.any.clone(),
            4 => vec![b'l'; 250 + usize::from(part / 16 % 8)],
            // Some are sorted before `.`, some between that and `..`.
            5 => b"-".to_vec(),
            6 => b".-".to_vec(),
            other => vec![b'a' + other % 4],
        };
        let depth = usize::from(self.depth % 8).min(3);
        self.parts[..depth].iter().map(part).collect::<Vec<_>>().join(&b'/')
    }
}

#[derive(Debug, Arbitrary)]
enum Name {
    User(u8),
    Security,
    Acl,
    Opaque,
    Origin,
    Any(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Attributes {
    mode: u16,
    ids: [u32; 2],
    seconds: i64,
    nanoseconds: u32,
    xattrs: Vec<(Name, Vec<u8>, u16)>,
}

impl Attributes {
    fn described(&self) -> Described {
        let (mut xattrs, mut kept) = (Xattrs::default(), BTreeMap::new());
        for (name, value, more) in &self.xattrs {
            let name = match name {
                Name::User(letter) => vec![b'u', b's', b'e', b'r', b'.', b'a' + letter % 4],
                Name::Security => b"security.x".to_vec(),
                Name::Acl => b"system.posix_acl_default".to_vec(),
                Name::Opaque => b"trusted.overlay.opaque".to_vec(),
                Name::Origin => b"trusted.overlay.origin".to_vec(),
                Name::Any(name) => name.clone(),
            };
            let mut value = value.clone();
            if more.is_multiple_of(8) {
                value.resize(value.len() + usize::from(*more), 7);
            }
            // What can't be kept is refused, and the others stay.
            if xattrs.set(&name, &value).is_ok() {
                kept.insert(name, value);
            }
        }
        let mtime = Mtime { seconds: self.seconds, nanoseconds: self.nanoseconds };
        let [uid, gid] = self.ids;
        Described { meta: Meta { mode: self.mode, uid, gid, mtime, xattrs }, xattrs: kept }
    }
}

#[derive(Debug, Arbitrary)]
enum Piece {
    Data { len: u16, first: u8 },
    Hole { len: u16, shift: u8 },
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Data { len, .. } => u64::from(*len),
            Self::Hole { len, shift } => u64::from(*len) << (shift % 18),
        }
    }

    fn data(&self) -> Option<Vec<u8>> {
        let Self::Data { len, first } = self else { return None };
        Some((0..*len).map(|at| first.wrapping_add(at as u8)).collect())
    }
}

#[derive(Debug, Arbitrary)]
enum Op {
    Directory(Path, Attributes),
    Opaque(Path),
    File { path: Path, attributes: Attributes, pieces: [Piece; 4], count: u8, lost: u8 },
    Symlink { path: Path, target: [u8; 4], more: u16, attributes: Attributes },
    Special { path: Path, kind: u8, number: [u16; 2], attributes: Attributes },
    HardLink(Path, Path),
    Whiteout(Path),
}

#[derive(Debug, Arbitrary)]
struct Start {
    inline: bool,
    few: u8,
    uuid: [u8; 16],
}

impl Start {
    fn options(&self) -> Options {
        let layout = if self.inline { Layout::Inline } else { Layout::Plain };
        let mut limits = Limits { image: IMAGE, tails: 10_000, ..Limits::default() };
        if self.few.is_multiple_of(8) {
            limits = Limits { entries: 8, names: 1000, xattrs: 9000, holes: 3, ..limits };
        }
        Options { uuid: self.uuid, layout, limits }
    }
}

/// Runs one input.
///
/// # Panics
/// If the image is not what the calls say.
pub fn run(input: &[u8]) {
    if let Some((image, summary, model)) = image(input) {
        check(&image, summary, model);
    }
}

/// The image that the calls of an input make, and what it should hold; no model: the calls have met
/// a limit.
///
/// # Panics
/// If a call succeeds that should not, or the other way round.
pub fn image(input: &[u8]) -> Option<(Vec<u8>, Summary, Option<Model>)> {
    let mut input = Unstructured::new(input);
    let start = Start::arbitrary(&mut input).ok()?;
    let mut image = Vec::new();
    let mut writer = Writer::new(Cursor::new(&mut image), start.options()).unwrap();
    let mut model = Model::default();
    let mut whole = true;
    while whole && !input.is_empty() {
        let Ok(op) = Op::arbitrary(&mut input) else { break };
        whole = apply(&op, &mut writer, &mut model);
    }
    match writer.finish() {
        Ok(summary) => Some((image, summary, whole.then_some(model))),
        Err(Error::Limit { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Fails if an image is not right in itself, or not as the model.
///
/// # Panics
/// If something is wrong.
pub fn check(image: &[u8], summary: Summary, model: Option<Model>) {
    let found = read(image).unwrap();
    same(image, &found);
    assert_eq!(summary.bytes, image.len() as u64);
    assert_eq!(summary.bytes, u64::from(summary.blocks) * 4096);
    let inodes = found.iter().filter(|(path, found)| **path == found.first);
    assert_eq!(summary.inodes, inodes.count() as u64);
    if let Some(model) = model {
        let expected = model.tree();
        for (path, found) in &found {
            assert_eq!(Some(found), expected.get(path), "{}", path.escape_ascii());
        }
        assert_eq!(found.len(), expected.len());
    }
}

/// The product's own reader finds the same tree, and meets no panic where the image is damaged.
fn same(image: &[u8], expected: &Tree) {
    let mut paths = 0;
    let whole = walk(image, |path, inode, content| {
        let expected = &expected[path].entry;
        assert_eq!((inode.mode, [inode.uid, inode.gid]), (expected.mode, expected.ids));
        assert_eq!((inode.mtime, inode.links), (expected.mtime, expected.links));
        assert_eq!(inode.xattrs.iter().cloned().collect::<BTreeMap<_, _>>(), expected.xattrs);
        match &expected.kind {
            Kind::Directory => assert_eq!(inode.kind, crate::Kind::Directory),
            Kind::Symlink(target) => assert_eq!(content.concat(), *target),
            Kind::Special(special) => assert_eq!(inode.kind, crate::Kind::Special(*special)),
            Kind::File { size, .. } => {
                assert_eq!((inode.kind, inode.size), (crate::Kind::File, *size))
            }
        }
        paths += 1;
    });
    whole.unwrap();
    // The reader does not tell of the root.
    assert_eq!(paths + 1, expected.len());
    let step = (image.len() / 64).max(1);
    for at in (4096..image.len()).step_by(step) {
        let mut damaged = image.to_vec();
        damaged[at] = damaged[at].wrapping_add(damaged[at - 1] | 1);
        let _told = walk(&damaged, |_, _, _| ());
    }
}

/// Reads an image by the product's reader.
fn walk(
    image: &[u8],
    mut each: impl FnMut(&[u8], &crate::Inode, Vec<Vec<u8>>),
) -> Result<(), crate::ReadError> {
    let mut reader = crate::Reader::open(Cursor::new(image))?;
    let names = reader.tree(&Limits::default())?;
    for name in &names.all {
        let inode = reader.inode(name.nid)?;
        // Files of a damaged image may be as large as they say.
        let kept = inode.kind == crate::Kind::Symlink;
        let mut content = Vec::new();
        for piece in reader.pieces(&inode)? {
            reader.content(piece, |bytes| {
                content.extend(kept.then(|| bytes.to_vec()));
                Ok::<_, crate::ReadError>(())
            })?;
        }
        each(&names.path(name), &inode, content);
    }
    Ok(())
}

/// Whether the image can still be used.
fn apply<W: Write + std::io::Seek>(op: &Op, writer: &mut Writer<W>, model: &mut Model) -> bool {
    let (written, expected) = match op {
        Op::Directory(path, attributes) => {
            let (at, own) = (path.bytes(), attributes.described());
            (writer.directory(&at, own.meta.clone()), model.directory(&at, &own))
        }
        Op::Opaque(path) => (writer.opaque(&path.bytes()), model.opaque(&path.bytes())),
        Op::File { path, attributes, pieces, count, lost } => {
            // Some files never come to their end, some lack content.
            let (dropped, lost) = (lost.is_multiple_of(16), u64::from(lost.saturating_sub(240)));
            let pieces = &pieces[..usize::from(count % 5)];
            let (at, own) = (path.bytes(), attributes.described());
            let written = file(writer, &at, &own.meta, (pieces, lost, dropped));
            let content = content(pieces);
            (written, model.file(&at, &own, content, lost == 0 && !dropped))
        }
        Op::Symlink { path, target, more, attributes } => {
            let (at, own) = (path.bytes(), attributes.described());
            let mut target = target[..usize::from(more % 8).min(4)].to_vec();
            if more.is_multiple_of(3) {
                target.resize(target.len() + usize::from(more % 4200), b'x');
            }
            (writer.symlink(&at, &target, own.meta.clone()), model.symlink(&at, &target, &own))
        }
        Op::Special { path, kind, number, attributes } => {
            let (at, own) = (path.bytes(), attributes.described());
            let [major, minor] = number.map(u32::from);
            let (major, minor) = (major % 4200, minor * 17);
            let special = match kind % 5 {
                0 => Special::Fifo,
                1 => Special::Socket,
                2 => Special::Block { major, minor },
                3 => Special::Character { major: 0, minor: 0 },
                _ => Special::Character { major, minor },
            };
            (writer.special(&at, special, own.meta.clone()), model.special(&at, special, &own))
        }
        Op::HardLink(path, target) => {
            let (at, target) = (path.bytes(), target.bytes());
            (writer.hard_link(&at, &target), model.hard_link(&at, &target))
        }
        Op::Whiteout(path) => (writer.whiteout(&path.bytes()), model.whiteout(&path.bytes())),
    };
    match written {
        Err(Error::Limit { .. }) => return false,
        Err(Error::Io(error)) => panic!("{error}"),
        written => assert_eq!(written.is_ok(), expected, "{op:?}: {written:?}"),
    }
    true
}

/// Size and data of a file with these pieces.
fn content(pieces: &[Piece]) -> (u64, Vec<(u64, Vec<u8>)>) {
    let mut at = 0;
    let mut data = Vec::new();
    for piece in pieces {
        data.extend(piece.data().map(|bytes| (at, bytes)));
        at += piece.len();
    }
    (at, data)
}

fn file<W: Write + std::io::Seek>(
    writer: &mut Writer<W>,
    path: &[u8],
    meta: &Meta,
    (pieces, lost, dropped): (&[Piece], u64, bool),
) -> Result<(), Error> {
    let size = content(pieces).0 + lost;
    let mut file = writer.file(path, meta.clone(), size)?;
    for piece in pieces {
        match piece.data() {
            Some(bytes) => file.write_all(&bytes)?,
            None => file.hole(piece.len())?,
        }
    }
    if dropped { Err(Error::Length { size }) } else { file.finish() }
}
