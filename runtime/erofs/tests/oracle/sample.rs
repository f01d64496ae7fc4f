//! Trees for the tests.

use std::io::{Cursor, Write};

use crate::{Layout, Meta, Mtime, Options, Special, Writer, Xattrs};

pub(crate) type Image<'a> = Writer<Cursor<&'a mut Vec<u8>>>;

/// The image that some calls make.
pub(crate) fn written(layout: Layout, calls: impl FnOnce(&mut Image<'_>)) -> Vec<u8> {
    with_options(Options { uuid: [7; 16], layout, ..Options::default() }, calls)
}

pub(crate) fn with_options(options: Options, calls: impl FnOnce(&mut Image<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(Cursor::new(&mut bytes), options).unwrap();
    calls(&mut writer);
    writer.finish().unwrap();
    bytes
}

pub(crate) fn mode(mode: u16) -> Meta {
    Meta { mode, ..Meta::default() }
}

pub(crate) fn with_xattrs(mode: u16, xattrs: &[(&str, &[u8])]) -> Meta {
    let mut all = Xattrs::default();
    for (name, value) in xattrs {
        all.set(name.as_bytes(), value).unwrap();
    }
    Meta { mode, xattrs: all, ..Meta::default() }
}

pub(crate) fn file(writer: &mut Image<'_>, path: &str, content: &[u8]) {
    file_with(writer, path, content, mode(0o644));
}

pub(crate) fn file_with(writer: &mut Image<'_>, path: &str, content: &[u8], meta: Meta) {
    let mut file = writer.file(path.as_bytes(), meta, content.len() as u64).unwrap();
    file.write_all(content).unwrap();
    file.finish().unwrap();
}

/// `user::rwx,user:1000:r--,group::r-x,mask::r-x,other::---`, as getxattr(2) shows it.
pub(crate) fn acl() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 7, u32::MAX),
        (0x02, 4, 1000),
        (0x04, 5, u32::MAX),
        (0x10, 5, u32::MAX),
        (0x20, 0, u32::MAX),
    ];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

/// Something of everything that a layer can have.
pub(crate) fn layer(writer: &mut Image<'_>) {
    let name = "n".repeat(255);
    let mut meta = with_xattrs(
        0o4755,
        &[
            ("security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            ("user.nul", b"a\0b\0"),
        ],
    );
    meta.uid = 1 << 31;
    meta.gid = u32::MAX - 1;
    meta.mtime = Mtime { seconds: -62_135_596_801, nanoseconds: 999_999_999 };
    file_with(writer, "usr/bin/tool", &[b'x'; 10_000], meta);
    for size in [0, 1, 63, 2048, 2049, 4095, 4096, 4097, 6144, 8191, 8192, 100_000] {
        let content: Vec<u8> = (0..size).map(|at: u32| at.to_le_bytes()[at as usize % 2]).collect();
        file(writer, &format!("sizes/{size}"), &content);
    }
    writer.directory(b"usr", mode(0o1777)).unwrap();
    writer
        .directory(name.as_bytes(), with_xattrs(0o2750, &[("system.posix_acl_default", &acl())]))
        .unwrap();
    file_with(
        writer,
        &format!("{name}/{name}"),
        b"deep",
        with_xattrs(0o750, &[("system.posix_acl_access", &acl())]),
    );
    for number in 0..3000 {
        file(writer, &format!("many/{number}-{}", "long".repeat(number % 50)), b"");
    }
    writer.symlink(b"bin", b"usr/bin", mode(0o777)).unwrap();
    writer.symlink(b"long-link", &[b'l'; 4095], mode(0o777)).unwrap();
    writer.hard_link(b"another/tool", b"usr/bin/tool").unwrap();
    writer.hard_link(b"bin-link", b"bin").unwrap();
    writer.special(b"dev/null", Special::Character { major: 1, minor: 3 }, mode(0o666)).unwrap();
    writer
        .special(b"dev/last", Special::Block { major: 4095, minor: (1 << 20) - 1 }, mode(0o600))
        .unwrap();
    writer.special(b"run/fifo", Special::Fifo, mode(0o600)).unwrap();
    writer.special(b"run/socket", Special::Socket, mode(0o755)).unwrap();
    writer.whiteout(b"gone/file").unwrap();
    writer.opaque(b"hidden").unwrap();
    let big = with_xattrs(
        0o600,
        &[("user.big", &[0xa5; 65_535]), ("user.bigger", &[0; 65_535]), ("trusted.t", b"")],
    );
    file_with(writer, "xattrs", &[1; 2000], big.clone());
    writer.directory(b"xattrs.d", big).unwrap();
    sparse_files(writer);
    file(writer, "-before-the-dots", b"");
    file(writer, ".-between-the-dots", b"");
    file(writer, "..-after-the-dots", b"");
    file(writer, "\u{fffd}", b"last");
}

fn sparse_files(writer: &mut Image<'_>) {
    sparse(writer, "sparse/both", 50_000_000, &[(4096, b"data"), (12_345_678, &[3; 5000])]);
    sparse(writer, "sparse/start", 9000, &[(8500, b"end")]);
    sparse(writer, "sparse/end", 1 << 20, &[(0, b"start")]);
    sparse(writer, "sparse/nothing", 123_456, &[]);
    sparse(
        writer,
        "sparse/huge",
        1 << 40,
        &[(1 << 33, b"in a chunk of 4 MiB"), ((1 << 40) - 3, b"end")],
    );
}

/// A file with data at some places.
pub(crate) fn sparse(writer: &mut Image<'_>, path: &str, size: u64, data: &[(u64, &[u8])]) {
    let mut file = writer.file(path.as_bytes(), mode(0o644), size).unwrap();
    let mut at = 0;
    for (start, bytes) in data {
        file.hole(start - at).unwrap();
        file.write_all(bytes).unwrap();
        at = start + bytes.len() as u64;
    }
    file.hole(size - at).unwrap();
    file.finish().unwrap();
}
