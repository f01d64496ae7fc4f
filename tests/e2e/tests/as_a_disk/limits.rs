//! What the share does not do as a disk does, each as `docs/limits.md` says it.

use std::fs::File;

use rustix::fs::{FallocateFlags, XattrFlags, fallocate, setxattr};

use super::answers::{Answers, Sequence};

pub(crate) const ALL: &[Sequence] = &[("ranges", ranges), ("attribute names", attribute_names)];

/// A look at a file of the sequence `set-ids`: its mode on the disk and in the share, and its size.
macro_rules! set_ids {
    ($name:literal, $disk:literal, $share:literal, $size:literal) => {
        (
            concat!("set-ids ", $name),
            concat!("\"", $disk, " 4321:8765 1 links ", $size, " bytes, device 0\""),
            concat!("\"", $share, " 4321:8765 1 links ", $size, " bytes, device 0\""),
        )
    };
}

/// Answers that differ: what was done, the disk's answer and the share's.
pub(crate) const KNOWN: &[(&str, &str, &str)] = &[
    // Root keeps set-id bits where it allocates space, but the request does not say who asks.
    set_ids!("allocate-6777-0", "106777", "100777", 9000),
    set_ids!("allocate-6666-0", "106666", "100666", 9000),
    // Nor does the change of an owner: a bit that the group can't use stays.
    set_ids!("chown-6666-4321", "100666", "102666", 12),
    set_ids!("chgrp-6666-4321", "100666", "102666", 12),
    // Such a bit stays if a member of the group writes, but the host does not know the groups.
    set_ids!("write-6666-4322", "102666", "100666", 12),
    set_ids!("append-6666-4322", "102666", "100666", 13),
    set_ids!("truncate-6666-4322", "102666", "100666", 3),
    set_ids!("open-6666-4322", "102666", "100666", 0),
    set_ids!("allocate-6666-4322", "102666", "100666", 9000),
    // EOPNOTSUPP: the guest's kernel does not ask for it.
    ("ranges insert", "()", "Ok(95)"),
    ("ranges collapse", "()", "Ok(95)"),
    // EPERM: the host's administrator's.
    ("attribute names security.other", "()", "Ok(1)"),
    // EPERM: what the guest's `trusted.*` are called on the host.
    ("attribute names user.virtiofs.one", "()", "Ok(1)"),
];

fn ranges(answers: &mut Answers) {
    let path = answers.at("file");
    std::fs::write(&path, [5; 16 << 10]).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    for (what, how) in
        [("insert", FallocateFlags::INSERT_RANGE), ("collapse", FallocateFlags::COLLAPSE_RANGE)]
    {
        answers.note(what, fallocate(&file, how, 4096, 4096));
    }
}

fn attribute_names(answers: &mut Answers) {
    answers.put("file", 0o644, "x");
    let none = XattrFlags::empty();
    for name in ["security.other", "user.virtiofs.one"] {
        answers.note(name, setxattr(answers.at("file"), name, b"x", none));
    }
}
