use std::io::{Cursor, Write};

use super::*;
use crate::{Layout, Meta, Mtime, Options, Special, Writer, Xattrs};

fn image(options: Options) -> Vec<u8> {
    let mut image = Vec::new();
    let mut writer = Writer::new(Cursor::new(&mut image), options).unwrap();
    let mut xattrs = Xattrs::default();
    xattrs.set(b"user.a=b", b"\0v").unwrap();
    xattrs.set(b"system.posix_acl_access", b"acl").unwrap();
    let mtime = Mtime { seconds: -5, nanoseconds: 7 };
    let meta = Meta { mode: 0o4751, uid: 70_000, gid: 3, mtime, xattrs };
    writer.file(b"d/full", meta.clone(), 5000).unwrap().write_all(&[7; 5000]).unwrap();
    let mut file = writer.file(b"d/full", meta.clone(), 5000).unwrap();
    file.write_all(&[8; 5000]).unwrap();
    file.finish().unwrap();
    let mut file = writer.file(b"holes", meta, 5 * 4096 + 3).unwrap();
    file.hole(4096).unwrap();
    file.write_all(&[9; 8192]).unwrap();
    file.hole(2 * 4096 + 3).unwrap();
    file.finish().unwrap();
    writer.hard_link(b"d/again", b"d/full").unwrap();
    writer.symlink(b"short", b"d/full", Meta::default()).unwrap();
    writer.symlink(b"long", &[b'x'; 3000], Meta::default()).unwrap();
    let tty = Special::Character { major: 4000, minor: 1_000_000 };
    writer.special(b"tty", tty, Meta::default()).unwrap();
    writer.whiteout(b"d/gone").unwrap();
    writer.opaque(b"d").unwrap();
    for number in 0..600 {
        writer
            .special(format!("many/{number:04}").as_bytes(), Special::Fifo, Meta::default())
            .unwrap();
    }
    writer.finish().unwrap();
    image
}

fn content(reader: &mut Reader<Cursor<&[u8]>>, inode: &Inode) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(inode.size).unwrap()];
    for piece in reader.pieces(inode).unwrap() {
        let mut at = usize::try_from(piece.start).unwrap();
        let taken = reader.content(piece, |bytes| {
            all[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
            Ok::<_, ReadError>(())
        });
        taken.unwrap();
    }
    all
}

#[test]
fn what_was_written_is_read() {
    for layout in [Layout::Plain, Layout::Inline] {
        let image = image(Options { layout, ..Options::default() });
        let mut reader = Reader::open(Cursor::new(&*image)).unwrap();
        let names = reader.tree(&Limits::default()).unwrap();
        let find = |path: &str| {
            let mut all = names.all.iter();
            all.find(|name| names.path(name) == path.as_bytes()).unwrap_or_else(|| panic!("{path}"))
        };
        assert_eq!(names.all.len(), 9 + 600);
        let full = reader.inode(find("d/full").nid).unwrap();
        assert_eq!((full.kind, full.mode, full.uid, full.gid), (Kind::File, 0o4751, 70_000, 3));
        assert_eq!((full.links, full.mtime), (2, Mtime { seconds: -5, nanoseconds: 7 }));
        let xattrs = [("system.posix_acl_access", &b"acl"[..]), ("user.a=b", b"\0v")];
        let xattrs = xattrs.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
        assert_eq!(full.xattrs, xattrs);
        assert_eq!(content(&mut reader, &full), [8; 5000]);
        assert_eq!(find("d/again").nid, full.nid);
        let holes = reader.inode(find("holes").nid).unwrap();
        let pieces = reader.pieces(&holes).unwrap();
        let pieces: Vec<_> = pieces.iter().map(|piece| (piece.start, piece.len)).collect();
        assert_eq!(pieces, [(4096, 8192)]);
        for (path, target) in [("short", &b"d/full"[..]), ("long", &[b'x'; 3000])] {
            let link = reader.inode(find(path).nid).unwrap();
            assert_eq!((link.kind, content(&mut reader, &link)), (Kind::Symlink, target.to_vec()));
        }
        let tty = Special::Character { major: 4000, minor: 1_000_000 };
        assert_eq!(reader.inode(find("tty").nid).unwrap().kind, Kind::Special(tty));
        let gone = reader.inode(find("d/gone").nid).unwrap().kind;
        assert_eq!(gone, Kind::Special(Special::Character { major: 0, minor: 0 }));
        let opaque = reader.inode(find("d").nid).unwrap().xattrs;
        assert_eq!(opaque[0].0, b"trusted.overlay.opaque");
    }
}

#[test]
fn damage_is_an_error_and_no_panic() {
    let image = image(Options::default());
    let all = |bytes: &[u8]| -> Result<(), ReadError> {
        let mut reader = Reader::open(Cursor::new(bytes))?;
        let names = reader.tree(&Limits::default())?;
        for name in &names.all {
            let inode = reader.inode(name.nid)?;
            for piece in reader.pieces(&inode)? {
                reader.content(piece, |_| Ok::<_, ReadError>(()))?;
            }
        }
        Ok(())
    };
    all(&image).unwrap();
    assert!(matches!(all(&[]), Err(ReadError::Damaged { .. })));
    assert!(matches!(all(&[0; 8192]), Err(ReadError::Foreign(_))));
    assert!(matches!(all(&image[..image.len() - 4096]), Err(ReadError::Damaged { .. })));
    let mut errors = 0;
    for at in (4096..image.len()).step_by(97) {
        let mut damaged = image.clone();
        damaged[at] ^= 0xff;
        errors += u32::from(all(&damaged).is_err());
    }
    assert!(errors > 10, "{errors}");
}

#[test]
fn limits_hold() {
    let image = image(Options::default());
    let mut reader = Reader::open(Cursor::new(&*image)).unwrap();
    let few = Limits { entries: 600, ..Limits::default() };
    assert!(matches!(reader.tree(&few), Err(ReadError::Limit { what: "names", .. })));
    let short = Limits { names: 100, ..Limits::default() };
    assert!(matches!(reader.tree(&short), Err(ReadError::Limit { what: "bytes of names", .. })));
}
