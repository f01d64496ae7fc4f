//! Names: how they come, change and go.

use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, linkat, mkdirat, mknodat, openat,
    readlinkat, renameat, renameat_with, symlinkat, unlinkat,
};

use super::answers::{Answers, SOMEBODY, Sequence, by};

pub(crate) const ALL: &[Sequence] = &[
    ("open", open),
    ("rename", rename),
    ("exchange", exchange),
    ("link", link),
    ("removed", removed),
    ("sticky", sticky),
    ("odd", odd_names),
    ("symlink", symlinks),
    ("special", special),
];

const ALL_MAY: Mode = Mode::from_raw_mode(0o777);

fn open(answers: &mut Answers) {
    let flags = [
        ("none", OFlags::RDONLY),
        ("create", OFlags::CREATE | OFlags::WRONLY),
        ("exclusive", OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY),
        ("truncate", OFlags::TRUNC | OFlags::WRONLY),
        ("directory", OFlags::DIRECTORY),
        ("nofollow", OFlags::NOFOLLOW),
        ("path", OFlags::PATH),
        ("direct", OFlags::DIRECT | OFlags::RDWR),
        ("create directory", OFlags::CREATE | OFlags::DIRECTORY),
        ("noatime", OFlags::NOATIME),
        ("append", OFlags::APPEND | OFlags::WRONLY),
        ("sync", OFlags::SYNC | OFlags::RDWR),
    ];
    let mode = Mode::from_raw_mode(0o640);
    answers.note("mkdir", mkdirat(CWD, answers.at("dir"), ALL_MAY));
    answers.note("symlink", symlinkat("dir", CWD, answers.at("link")));
    answers.note("dangling", symlinkat("new", CWD, answers.at("dangling")));
    for name in ["file", "dir", "link", "dangling", "dir/", "none/x", "file/x"] {
        for (what, flags) in flags {
            let file = openat(CWD, answers.at(name), flags, mode);
            answers.note(&format!("{name} {what}"), file.map(drop));
        }
        answers.look(name, name);
    }
    answers.look("new", "new");
    answers.put("written", 0o600, "0123456789");
    answers.note("cut", openat(CWD, answers.at("written"), flags[3].1, mode).map(drop));
    answers.look("cut", "written");
    by(SOMEBODY, &[SOMEBODY], || {
        for (what, flags) in flags {
            let file = openat(CWD, answers.at("file"), flags, mode);
            answers.note(&format!("somebody {what}"), file.map(drop));
        }
    });
}

/// Makes something of that kind, called `name-kind`.
fn make(answers: &Answers, name: &str, kind: &str) {
    let path = answers.at(&format!("{name}-{kind}"));
    match kind {
        "file" => answers.put(&format!("{name}-file"), 0o644, name),
        "dir" => answers.note("dir", mkdirat(CWD, path, ALL_MAY)),
        "full" => {
            answers.note("full", mkdirat(CWD, path, ALL_MAY));
            answers.put(&format!("{name}-full/in"), 0o644, name);
        }
        "link" => answers.note("link", symlinkat("nowhere", CWD, path)),
        _ => {}
    }
}

const KINDS: [&str; 5] = ["file", "dir", "full", "link", "none"];

fn rename(answers: &mut Answers) {
    for (number, from) in KINDS.iter().enumerate() {
        for (at, to) in KINDS.iter().enumerate() {
            let base = format!("{number}{at}");
            let other = format!("{number}{at}b");
            make(answers, &base, from);
            make(answers, &other, to);
            let (from_path, to_path) = (format!("{base}-{from}"), format!("{other}-{to}"));
            let renamed = renameat(CWD, answers.at(&from_path), CWD, answers.at(&to_path));
            answers.note(&format!("{from} to {to}"), renamed);
            answers.look("from", &from_path);
            answers.look("to", &to_path);
        }
    }
    make(answers, "00", "dir");
    make(answers, "01", "full");
    answers.note("into itself", renameat(CWD, answers.at("00-dir"), CWD, answers.at("00-dir/x")));
    answers.note("to itself", renameat(CWD, answers.at("01-full"), CWD, answers.at("01-full")));
    answers.note(
        "over its parent",
        renameat(CWD, answers.at("01-full/in"), CWD, answers.at("01-full")),
    );
    answers.note("dot", renameat(CWD, answers.at("01-full/."), CWD, answers.at("x")));
    answers.note("missing parent", renameat(CWD, answers.at("01-full"), CWD, answers.at("no/x")));
}

fn exchange(answers: &mut Answers) {
    let ways = [
        ("keep", RenameFlags::NOREPLACE),
        ("exchange", RenameFlags::EXCHANGE),
        ("both", RenameFlags::NOREPLACE | RenameFlags::EXCHANGE),
        ("whiteout", RenameFlags::WHITEOUT),
    ];
    for (way, flags) in ways {
        for (from, to) in
            [("file", "file"), ("file", "dir"), ("full", "link"), ("dir", "none"), ("none", "file")]
        {
            let (base, other) = (format!("{way}{from}{to}"), format!("{way}{from}{to}b"));
            make(answers, &base, from);
            make(answers, &other, to);
            let (from_path, to_path) = (format!("{base}-{from}"), format!("{other}-{to}"));
            let (old, new) = (answers.at(&from_path), answers.at(&to_path));
            answers.note(&format!("{way} {from} {to}"), renameat_with(CWD, old, CWD, new, flags));
            answers.look("from", &from_path);
            answers.look("to", &to_path);
        }
    }
}

fn link(answers: &mut Answers) {
    KINDS.iter().for_each(|kind| make(answers, "a", kind));
    let empty = AtFlags::empty();
    let link = |old: &str, new: &str, flags| {
        linkat(CWD, answers.at(&format!("a-{old}")), CWD, answers.at(new), flags)
    };
    for kind in KINDS {
        answers.note(kind, link(kind, &format!("new-{kind}"), empty));
        answers.look(kind, &format!("new-{kind}"));
        answers.note("once more", link(kind, &format!("new-{kind}"), empty));
    }
    answers.note("followed", link("link", "followed", AtFlags::SYMLINK_FOLLOW));
    // What others made meanwhile changes nothing.
    answers.note(
        "all may",
        std::fs::set_permissions(
            answers.at("a-dir"),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        ),
    );
    by(SOMEBODY, &[SOMEBODY], || {
        answers.put("a-dir/theirs", 0o644, "theirs");
        let new = answers.at("a-dir/own");
        answers.note("own", linkat(CWD, answers.at("a-dir/theirs"), CWD, new, empty));
        let new = answers.at("a-dir/roots");
        answers.note("roots", linkat(CWD, answers.at("a-file"), CWD, new, empty).map(drop));
    });
    answers.note("afterwards", link("file", "afterwards", empty));
    answers.look("all", "a-file");
    let fd = openat(CWD, answers.at("a-file"), OFlags::RDONLY, Mode::empty()).unwrap();
    let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    answers
        .note("descriptor", linkat(CWD, from, CWD, answers.at("by-fd"), AtFlags::SYMLINK_FOLLOW));
    answers.note("empty path", linkat(&fd, "", CWD, answers.at("by-fd2"), AtFlags::EMPTY_PATH));
    answers.look("all", "a-file");
}

fn removed(answers: &mut Answers) {
    answers.put("file", 0o644, "content");
    let file = std::fs::File::options().read(true).write(true).open(answers.at("file")).unwrap();
    answers.note("unlink", unlinkat(CWD, answers.at("file"), AtFlags::empty()));
    answers.note("again", unlinkat(CWD, answers.at("file"), AtFlags::empty()));
    answers.note("write", rustix::io::pwrite(&file, b"more", 7));
    let mut seen = [0; 20];
    answers.note("read", rustix::io::pread(&file, &mut seen, 0));
    answers.note("seen", Ok::<_, std::io::Error>(String::from_utf8_lossy(&seen).into_owned()));
    let stat = rustix::fs::fstat(&file);
    answers.note("stat", stat.map(|stat| (stat.st_nlink, stat.st_size)));
    answers.note("chmod", rustix::fs::fchmod(&file, Mode::from_raw_mode(0o600)));
    answers.note("cut", rustix::fs::ftruncate(&file, 3));
    answers.note("mkdir", mkdirat(CWD, answers.at("dir"), ALL_MAY));
    let dir = openat(CWD, answers.at("dir"), OFlags::DIRECTORY, Mode::empty()).unwrap();
    answers.note("unlink dir", unlinkat(CWD, answers.at("dir"), AtFlags::empty()));
    answers.note("rmdir file", unlinkat(CWD, answers.at("none"), AtFlags::REMOVEDIR));
    answers.note("rmdir", unlinkat(CWD, answers.at("dir"), AtFlags::REMOVEDIR));
    answers.note("make in it", mkdirat(&dir, "x", ALL_MAY));
    answers.note("full", mkdirat(CWD, answers.at("full"), ALL_MAY));
    answers.put("full/x", 0o644, "");
    answers.note("rmdir full", unlinkat(CWD, answers.at("full"), AtFlags::REMOVEDIR));
    answers.note("dot", unlinkat(CWD, answers.at("full/."), AtFlags::REMOVEDIR));
    answers.note("dots", unlinkat(CWD, answers.at("full/.."), AtFlags::REMOVEDIR));
}

fn sticky(answers: &mut Answers) {
    answers.note("mkdir", mkdirat(CWD, answers.at("dir"), Mode::from_raw_mode(0o1777)));
    answers.look("dir", "dir");
    answers.put("dir/roots", 0o666, "root");
    by(SOMEBODY + 1, &[SOMEBODY], || answers.put("dir/others", 0o666, "other"));
    by(SOMEBODY, &[SOMEBODY], || {
        answers.put("dir/mine", 0o666, "mine");
        for name in ["dir/roots", "dir/others", "dir/mine"] {
            answers.note(name, renameat(CWD, answers.at(name), CWD, answers.at("dir/moved")));
            answers.note(name, unlinkat(CWD, answers.at(name), AtFlags::empty()));
        }
        answers.note("over", renameat(CWD, answers.at("dir/moved"), CWD, answers.at("dir/roots")));
        answers.note("own", unlinkat(CWD, answers.at("dir/moved"), AtFlags::empty()));
    });
}

fn odd_names(answers: &mut Answers) {
    let long = "x".repeat(255);
    for name in [long.as_str(), &"y".repeat(256), "line\nbreak", " ", "é", "...", "-", "\\", "a:b"]
    {
        answers.put(name, 0o644, name);
        answers.note("read", std::fs::read_to_string(answers.at(name)));
    }
    let bytes = std::ffi::OsStr::from_bytes(b"odd/\xff\xfe");
    answers.note("not text", std::fs::write(bytes, "x"));
    answers.note("not text", std::fs::read_to_string(bytes));
    let deep = "d/".repeat(40);
    answers.note("deep", std::fs::create_dir_all(answers.at(&deep)));
    answers.put(&format!("{deep}file"), 0o644, "deep");
    answers.note("too deep", std::fs::create_dir_all("d/".repeat(2100)));
    answers.note("remove", std::fs::remove_dir_all(answers.at("d")));
    answers.note("empty", std::fs::File::open("").map(drop));
}

fn symlinks(answers: &mut Answers) {
    for (name, target) in
        [("one", "two"), ("two", "one"), ("self", "self"), ("up", ".."), ("dir", "real")]
    {
        answers.note(name, symlinkat(target, CWD, answers.at(name)));
        answers.note(name, openat(CWD, answers.at(name), OFlags::RDONLY, Mode::empty()).map(drop));
        answers.look(name, name);
    }
    answers.note("real", mkdirat(CWD, answers.at("real"), ALL_MAY));
    answers.put("dir/file", 0o644, "x");
    answers.look("through", "real/file");
    answers.note("there", symlinkat("x", CWD, answers.at("dir")));
    let long = "t/".repeat(2000);
    answers.note("long", symlinkat(long.as_str(), CWD, answers.at("long")));
    answers.note(
        "long",
        readlinkat(CWD, answers.at("long"), Vec::new()).map(|to| to.as_bytes() == long.as_bytes()),
    );
    answers.note("too long", symlinkat("t".repeat(5000), CWD, answers.at("longer")));
    answers.note("empty", symlinkat("", CWD, answers.at("empty")));
    answers.note("read a file", readlinkat(CWD, answers.at("real/file"), Vec::new()));
    let mut chain = "real".to_owned();
    for number in 0..42 {
        let name = format!("chain{number}");
        symlinkat(chain.as_str(), CWD, answers.at(&name)).unwrap();
        chain = name;
    }
    answers.note("39", std::fs::metadata(answers.at("chain39")).map(drop));
    answers.note("40", std::fs::metadata(answers.at("chain40")).map(drop));
}

fn special(answers: &mut Answers) {
    let kinds = [
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("null", FileType::CharacterDevice, 0x103),
        ("disk", FileType::BlockDevice, 0x700),
        ("plain", FileType::RegularFile, 0),
    ];
    let mode = Mode::from_raw_mode(0o646);
    for (name, kind, device) in kinds {
        answers.note(name, mknodat(CWD, answers.at(name), kind, mode, device));
        answers.look(name, name);
        answers.note(name, mknodat(CWD, answers.at(name), kind, mode, device));
        answers.note(
            "chmod",
            std::fs::set_permissions(
                answers.at(name),
                std::os::unix::fs::PermissionsExt::from_mode(0o604),
            ),
        );
        answers.note("chown", std::os::unix::fs::lchown(answers.at(name), Some(3), Some(4)));
        answers.look(name, name);
    }
    answers.note(
        "open socket",
        openat(CWD, answers.at("socket"), OFlags::RDONLY, Mode::empty()).map(drop),
    );
    let flags = OFlags::WRONLY | OFlags::NONBLOCK;
    answers.note("open fifo", openat(CWD, answers.at("fifo"), flags, Mode::empty()).map(drop));
    let listener = std::os::unix::net::UnixListener::bind(answers.at("bound"));
    answers.note(
        "bind",
        listener
            .as_ref()
            .map(drop)
            .map_err(|error| std::io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(0))),
    );
    answers
        .note("bind again", std::os::unix::net::UnixListener::bind(answers.at("bound")).map(drop));
    answers.note("connect", std::os::unix::net::UnixStream::connect(answers.at("bound")).map(drop));
    by(SOMEBODY, &[SOMEBODY], || {
        let name = answers.at("theirs");
        answers.note("not theirs", mknodat(CWD, name, FileType::CharacterDevice, mode, 0x103));
    });
}
