//! Who may do what, and what is lost when files change hands.

use std::fs::set_permissions;
use std::os::unix::fs::{PermissionsExt, chown};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags, getxattr,
    lgetxattr, listxattr, lsetxattr, mkdirat, openat, removexattr, setxattr, statat, unlinkat,
    utimensat,
};

use super::answers::{Answers, GROUP, SOMEBODY, Sequence, by};

pub(crate) const ALL: &[Sequence] = &[
    ("set-ids", set_ids),
    ("owners", owners),
    ("groups", groups),
    ("access", access),
    ("acl", acls),
    ("attributes", attributes),
    ("capability", capability),
    ("times", times),
    ("umask", umask),
];

fn chmod(answers: &Answers, name: &str, mode: u32) {
    let set = set_permissions(answers.at(name), std::fs::Permissions::from_mode(mode));
    answers.note(&format!("chmod {name} {mode:o}"), set);
}

fn own(answers: &Answers, name: &str, user: u32, group: u32) {
    answers.note(&format!("chown {name}"), chown(answers.at(name), Some(user), Some(group)));
}

fn set_ids(answers: &mut Answers) {
    let (root, owner, member) =
        ((0, [0, 0]), (SOMEBODY, [SOMEBODY, 0]), (SOMEBODY + 1, [1, GROUP]));
    let modes = [0o6777, 0o6666];
    for (mode, who) in modes.iter().flat_map(|&mode| [root, owner, member].map(|who| (mode, who))) {
        for way in ["write", "append", "truncate", "open", "chown", "chgrp", "chmod", "allocate"] {
            let (user, groups) = who;
            let name = format!("{way}-{mode:o}-{user}");
            answers.put(&name, 0o777, "some content");
            own(answers, &name, SOMEBODY, GROUP);
            chmod(answers, &name, mode);
            by(user, &groups, || change(answers, &name, way));
            answers.look(&name, &name);
        }
    }
}

fn change(answers: &Answers, name: &str, way: &str) {
    let path = answers.at(name);
    let open = |flags| openat(CWD, &path, flags, Mode::empty());
    let write = OFlags::WRONLY;
    match way {
        "write" => answers.note(way, open(write).and_then(|file| rustix::io::write(&file, b"x"))),
        "append" => {
            let file = open(write | OFlags::APPEND);
            answers.note(way, file.and_then(|file| rustix::io::write(&file, b"x")));
        }
        "truncate" => {
            let file = open(write);
            answers.note(way, file.and_then(|file| rustix::fs::ftruncate(&file, 3)));
        }
        "open" => answers.note(way, open(write | OFlags::TRUNC).map(drop)),
        "chown" => answers.note(way, chown(&path, Some(SOMEBODY), None)),
        "chgrp" => answers.note(way, chown(&path, None, Some(GROUP))),
        "allocate" => {
            let flags = rustix::fs::FallocateFlags::empty();
            let file = open(write);
            answers.note(way, file.and_then(|file| rustix::fs::fallocate(&file, flags, 0, 9000)));
        }
        _ => chmod(answers, name, 0o6755),
    }
}

fn owners(answers: &mut Answers) {
    answers.put("file", 0o644, "x");
    answers.put("theirs", 0o644, "x");
    own(answers, "theirs", SOMEBODY, GROUP);
    answers.note("link", rustix::fs::symlinkat("file", CWD, answers.at("link")));
    for (user, groups) in
        [(SOMEBODY, [GROUP, 0]), (SOMEBODY, [1, GROUP]), (SOMEBODY + 1, [GROUP, 7])]
    {
        by(user, &groups, || {
            for name in ["file", "theirs", "link"] {
                chmod(answers, name, 0o666);
                let give = |user, group| chown(answers.at(name), user, group);
                answers.note("give away", give(Some(SOMEBODY + 2), None));
                answers.note("take", give(Some(user), None));
                answers.note("to own group", give(None, Some(groups[1])));
                answers.note("to a group", give(None, Some(99)));
                answers.note("to nobody", give(None, None));
                answers.note("link", std::os::unix::fs::lchown(answers.at(name), Some(user), None));
                answers.look(name, name);
            }
        });
    }
    own(answers, "link", 5, 6);
    answers.look("link", "link");
    answers.look("file", "file");
}

fn groups(answers: &mut Answers) {
    for (name, mode, group) in [
        ("plain", 0o777, 0),
        ("set", 0o2777, GROUP),
        ("grouped", 0o770, GROUP),
        ("set-grouped", 0o2770, GROUP),
    ] {
        answers.note("mkdir", mkdirat(CWD, answers.at(name), Mode::from_raw_mode(mode)));
        own(answers, name, 0, group);
        chmod(answers, name, mode);
        for (user, groups) in
            [(SOMEBODY, [SOMEBODY, GROUP]), (SOMEBODY, [GROUP, 3]), (SOMEBODY, [1, 3])]
        {
            let file = format!("{name}/{}-{}", groups[0], groups[1]);
            by(user, &groups, || {
                answers.put(&file, 0o2775, "x");
                let dir = answers.at(&format!("{file}-dir"));
                answers.note("dir", mkdirat(CWD, dir, Mode::from_raw_mode(0o2755)));
                let link = answers.at(&format!("{file}-link"));
                answers.note("link", rustix::fs::symlinkat("x", CWD, link));
            });
            for what in ["", "-dir", "-link"] {
                answers.look(what, &format!("{file}{what}"));
            }
        }
    }
}

fn access(answers: &mut Answers) {
    answers.put("file", 0o777, "x");
    answers.note("mkdir", mkdirat(CWD, answers.at("dir"), Mode::from_raw_mode(0o777)));
    answers.put("dir/file", 0o666, "x");
    own(answers, "file", SOMEBODY, GROUP);
    own(answers, "dir", SOMEBODY, GROUP);
    for mode in [0o000, 0o500, 0o070, 0o007] {
        chmod(answers, "file", mode);
        chmod(answers, "dir", mode);
        for (user, groups) in
            [(0, [0, 0]), (SOMEBODY, [1, 2]), (7, [GROUP, 2]), (7, [1, GROUP]), (7, [1, 2])]
        {
            by(user, &groups, || try_access(answers, &format!("{mode:o} {user}")));
        }
    }
}

fn try_access(answers: &Answers, who: &str) {
    for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
        let file = openat(CWD, answers.at("file"), flags, Mode::empty());
        answers.note(who, file.map(drop));
    }
    answers.note("list", std::fs::read_dir(answers.at("dir")).map(Iterator::count));
    answers.note("into", std::fs::read(answers.at("dir/file")));
    let made = openat(CWD, answers.at("dir/new"), OFlags::CREATE, Mode::empty());
    answers.note("make", made.map(drop));
    answers.note("rm", unlinkat(CWD, answers.at("dir/new"), AtFlags::empty()));
}

/// An access control list as the kernel takes it: tags, permissions and ids (`acl(5)`).
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// No id.
const NONE: u32 = u32::MAX;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

fn acls(answers: &mut Answers) {
    let none = XattrFlags::empty();
    let named = acl(&[(1, 6, NONE), (2, 4, SOMEBODY), (4, 0, NONE), (16, 4, NONE), (32, 0, NONE)]);
    let barred = acl(&[(1, 6, NONE), (4, 0, NONE), (8, 6, GROUP), (16, 6, NONE), (32, 4, NONE)]);
    let inherited =
        acl(&[(1, 7, NONE), (2, 7, SOMEBODY), (4, 5, NONE), (16, 7, NONE), (32, 0, NONE)]);
    let show = |name: &str, kind: &str| {
        let mut buffer = [0; 200];
        let len = getxattr(answers.at(name), kind, &mut buffer);
        answers.note(&format!("{name} {kind}"), len.map(|len| buffer[..len].to_vec()));
        answers.look(name, name);
    };
    for (name, list) in [("named", &named), ("barred", &barred)] {
        answers.put(name, 0o600, "secret");
        answers.note(name, setxattr(answers.at(name), ACCESS, list, none));
        show(name, ACCESS);
        for (user, groups) in [(SOMEBODY, [1, 2]), (8, [GROUP, 1]), (8, [1, GROUP]), (8, [0, 1])] {
            by(user, &groups, || answers.note("read", std::fs::read_to_string(answers.at(name))));
        }
    }
    answers.note("mkdir", mkdirat(CWD, answers.at("dir"), Mode::from_raw_mode(0o755)));
    answers.note("default", setxattr(answers.at("dir"), DEFAULT, &inherited, none));
    answers.note("on a file", setxattr(answers.at("named"), DEFAULT, &inherited, none));
    rustix::process::umask(Mode::from_raw_mode(0o027));
    for (name, mode) in [("dir/one", 0o666), ("dir/two", 0o640), ("dir/three", 0o600)] {
        answers.put(name, mode, "x");
        show(name, ACCESS);
    }
    answers.note("below", mkdirat(CWD, answers.at("dir/sub"), Mode::from_raw_mode(0o777)));
    rustix::process::umask(Mode::empty());
    show("dir/sub", ACCESS);
    show("dir/sub", DEFAULT);
    by(SOMEBODY, &[1, 2], || {
        answers.put("dir/theirs", 0o644, "x");
        answers.note("not theirs", setxattr(answers.at("named"), ACCESS, &barred, none));
        answers.note("named", std::fs::write(answers.at("dir/one"), "by name"));
    });
    show("dir/theirs", ACCESS);
    chmod(answers, "named", 0o640);
    show("named", ACCESS);
    chmod(answers, "named", 0o2750);
    own(answers, "named", SOMEBODY, 77);
    by(SOMEBODY, &[1, 2], || {
        answers.note("kill", setxattr(answers.at("named"), ACCESS, &named, none))
    });
    show("named", ACCESS);
    answers.note("broken", setxattr(answers.at("named"), ACCESS, &[2, 0, 0, 0, 1], none));
    answers.note("remove", removexattr(answers.at("named"), ACCESS));
    show("named", ACCESS);
    answers.note("remove", removexattr(answers.at("dir"), DEFAULT));
    answers.put("dir/plain", 0o666, "x");
    show("dir/plain", ACCESS);
}

fn attributes(answers: &mut Answers) {
    answers.put("file", 0o644, "x");
    answers.note("dir", mkdirat(CWD, answers.at("dir"), Mode::from_raw_mode(0o755)));
    answers.note("link", rustix::fs::symlinkat("file", CWD, answers.at("link")));
    let names = [
        "user.one",
        "trusted.one",
        "other.one",
        "user.",
        "one",
        &format!("user.{}", "n".repeat(250)),
        &format!("user.{}", "n".repeat(251)),
    ];
    for name in ["file", "dir", "link"] {
        let kept = |attribute: &&&str| name != "link" || !attribute.starts_with("trusted");
        for attribute in names.iter().filter(kept) {
            let set = |flags| lsetxattr(answers.at(name), *attribute, b"value", flags);
            let mut buffer = [0; 64];
            answers.note(&format!("{name} {attribute}"), set(XattrFlags::REPLACE));
            answers.note("create", set(XattrFlags::CREATE));
            answers.note("create", set(XattrFlags::CREATE));
            answers.note("replace", set(XattrFlags::REPLACE));
            answers.note("get", lgetxattr(answers.at(name), *attribute, &mut buffer));
            answers.note("short", lgetxattr(answers.at(name), *attribute, &mut buffer[..2]));
            answers.note("size", lgetxattr(answers.at(name), *attribute, &mut buffer[..0]));
        }
    }
    by(SOMEBODY, &[SOMEBODY], || {
        for attribute in names {
            let mut buffer = [0; 64];
            answers.note("read", getxattr(answers.at("file"), attribute, &mut buffer));
            let set = setxattr(answers.at("file"), attribute, b"x", XattrFlags::empty());
            answers.note("write", set);
            answers.note("remove", removexattr(answers.at("file"), attribute));
        }
    });
    let mut buffer = [0; 4096];
    let listed = listxattr(answers.at("file"), &mut buffer);
    answers.note_list("list", listed.map(|len| &buffer[..len]));
    answers.note("short", listxattr(answers.at("file"), &mut buffer[..3]));
    let large = setxattr(answers.at("file"), "user.large", &[1; 3000], XattrFlags::empty());
    answers.note("large", large);
    answers.note(
        "too large",
        setxattr(answers.at("file"), "user.l", &[1; 65_537], XattrFlags::empty()),
    );
    for attribute in names {
        answers.note("remove", removexattr(answers.at("file"), attribute));
        answers.note("again", removexattr(answers.at("file"), attribute));
    }
}

/// A file with a capability (`capabilities(7)`), which a write takes away.
fn capability(answers: &mut Answers) {
    let value = [0x0200_0001_u32, 0x400, 0, 0, 0].map(u32::to_le_bytes).concat();
    for way in ["write", "truncate", "chown", "chmod", "open"] {
        answers.put(way, 0o777, "program");
        let path = answers.at(way);
        answers.note("set", setxattr(&path, "security.capability", &value, XattrFlags::empty()));
        let mut buffer = [0; 64];
        answers.note("get", getxattr(&path, "security.capability", &mut buffer));
        change(answers, way, way);
        answers.note(way, getxattr(&path, "security.capability", &mut buffer));
    }
    by(SOMEBODY, &[SOMEBODY], || {
        let set = setxattr(answers.at("write"), "security.capability", &value, XattrFlags::empty());
        answers.note("by somebody", set);
    });
}

fn times(answers: &mut Answers) {
    answers.put("file", 0o666, "x");
    answers.note("link", rustix::fs::symlinkat("file", CWD, answers.at("link")));
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let show = |name: &str| {
        let stat = statat(CWD, answers.at(name), AtFlags::SYMLINK_NOFOLLOW);
        answers.note(
            name,
            stat.map(|stat| (stat.st_atime, stat.st_atime_nsec, stat.st_mtime, stat.st_mtime_nsec)),
        );
    };
    for (access, change) in [
        (time(1, 2), time(3, 4)),
        (time(0, 999_999_999), time(-5, 0)),
        (time(1 << 31, 1), time((1 << 33) + 7, 0)),
        (time(0, UTIME_OMIT), time(77, 0)),
        (time(88, 0), time(0, UTIME_OMIT)),
        (time(0, UTIME_OMIT), time(0, UTIME_OMIT)),
        (time(0, 1_000_000_000), time(0, 0)),
    ] {
        let times = Timestamps { last_access: access, last_modification: change };
        for name in ["file", "link"] {
            answers.note(name, utimensat(CWD, answers.at(name), &times, AtFlags::SYMLINK_NOFOLLOW));
            show(name);
        }
    }
    let now = time(0, UTIME_NOW);
    let set = |access, change| {
        let times = Timestamps { last_access: access, last_modification: change };
        utimensat(CWD, answers.at("file"), &times, AtFlags::empty())
    };
    by(SOMEBODY, &[SOMEBODY], || {
        answers.note("not theirs", set(time(1, 1), time(1, 1)));
        answers.note("half now", set(now, time(1, 1)));
    });
    chmod(answers, "file", 0o644);
    by(SOMEBODY, &[SOMEBODY], || answers.note("now", set(now, now)));
    chmod(answers, "file", 0o666);
    by(SOMEBODY, &[SOMEBODY], || answers.note("may write", set(now, now)));
}

fn umask(answers: &mut Answers) {
    for mask in [0o022, 0o777] {
        rustix::process::umask(Mode::from_raw_mode(mask));
        for mode in [0o777, 0o6777] {
            let name = format!("{mask:o}-{mode:o}");
            answers.put(&name, mode, "x");
            answers.look("file", &name);
            let dir = format!("{name}-dir");
            answers.note("dir", mkdirat(CWD, answers.at(&dir), Mode::from_raw_mode(mode)));
            answers.look("dir", &dir);
        }
    }
    rustix::process::umask(Mode::empty());
}
