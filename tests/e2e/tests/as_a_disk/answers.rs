//! How sequences tell what they were answered, and do something as somebody else.

use std::fmt::Debug;
use std::io;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// What a line with an answer begins with.
pub(crate) const MARK: &str = "= ";

/// One list of operations with a name.
pub(crate) type Sequence = (&'static str, fn(&mut Answers));

/// A user who is not root.
pub(crate) const SOMEBODY: u32 = 4321;
/// A group that nobody is in by default.
pub(crate) const GROUP: u32 = 8765;

/// Answers as they come; printed at once, because each line of a container's output is a message
/// to the host.
#[derive(Default)]
pub(crate) struct Answers {
    sequence: &'static str,
    lines: std::sync::Mutex<Vec<String>>,
}

impl Answers {
    /// Another sequence begins, in a directory of its own.
    pub(crate) fn begin(&mut self, sequence: &'static str) {
        self.sequence = sequence;
        std::fs::create_dir(sequence).unwrap();
    }

    /// A path in the directory of this sequence.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.sequence)
    }

    /// Prints what was answered; an error by its number.
    pub(crate) fn note<T: Debug, E: Into<io::Error>>(&self, what: &str, answer: Result<T, E>) {
        let answer = match answer.map_err(Into::into) {
            Ok(value) => format!("{value:?}"),
            Err(error) => format!("{:?}", error.raw_os_error().ok_or(error)),
        };
        self.lines.lock().unwrap().push(format!("{MARK}{} {what}: {answer}", self.sequence));
    }

    /// Prints a list of names that each end with a NUL; their order is the disk's own affair.
    pub(crate) fn note_list<E: Into<io::Error>>(&self, what: &str, list: Result<&[u8], E>) {
        let sorted = list.map(|list| {
            let names = list.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            names.collect::<std::collections::BTreeSet<_>>()
        });
        self.note(what, sorted);
    }

    /// Prints them.
    pub(crate) fn print(&self) {
        println!("\n{}\n{MARK}end", self.lines.lock().unwrap().join("\n"));
    }

    /// Prints what must not change from one disk to another: type, mode, owner, links and size.
    pub(crate) fn look(&self, what: &str, name: &str) {
        let told = statat(CWD, self.at(name), AtFlags::SYMLINK_NOFOLLOW).map(|stat| {
            let directory = stat.st_mode & 0o170_000 == 0o040_000;
            let size = if directory { 0 } else { stat.st_size };
            format!(
                "{:o} {}:{} {} links {size} bytes, device {}",
                stat.st_mode, stat.st_uid, stat.st_gid, stat.st_nlink, stat.st_rdev
            )
        });
        self.note(what, told);
    }

    /// Makes a file with a content, and says what it was answered.
    pub(crate) fn put(&self, name: &str, mode: u32, content: &str) {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
        let file = openat(CWD, self.at(name), flags, Mode::from_raw_mode(mode));
        self.note(
            &format!("put {name}"),
            file.and_then(|file| rustix::io::write(file, content.as_bytes())),
        );
    }
}

/// Runs `work` in a thread of that user and these groups, the first of which is the main one.
pub(crate) fn by<T: Send>(user: u32, groups: &[u32], work: impl FnOnce() -> T + Send) -> T {
    let groups: Vec<_> = groups.iter().map(|&group| Gid::from_raw(group)).collect();
    let user = Uid::from_raw(user);
    let run = || {
        set_thread_groups(&groups[1..]).unwrap();
        set_thread_res_gid(groups[0], groups[0], groups[0]).unwrap();
        set_thread_res_uid(user, user, user).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}
