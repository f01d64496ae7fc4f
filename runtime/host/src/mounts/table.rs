//! The table of mounts, `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use syscalls::escapes::undo;

/// Where the kernel shows it. It can be polled for changes.
pub const PATH: &str = "/proc/self/mountinfo";

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Its number, which no other mount has as long as it lasts.
    pub id: u64,
    /// Major and minor number of its filesystem's device.
    pub device: (u32, u32),
    /// What of the filesystem is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// The filesystem's type.
    pub kind: String,
    /// The filesystem's own options, with commas between them.
    pub options: String,
}

/// Reads the table of this process's namespace, in mounting order.
///
/// # Errors
/// What the kernel answered.
pub fn read() -> io::Result<Vec<Mounted>> {
    Ok(parse(&std::fs::read(PATH)?))
}

/// What is mounted below a directory, but not at it (pure).
pub fn below<'table>(
    table: &'table [Mounted],
    directory: &'table Path,
) -> impl Iterator<Item = &'table Mounted> {
    table.iter().filter(move |m| m.point != directory && m.point.starts_with(directory))
}

pub(crate) fn parse(table: &[u8]) -> Vec<Mounted> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok();
    let id = number()?.parse().ok()?;
    let (_parent, device) = (number()?, number()?);
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    // Options of the mount, and any number of fields for who shares it.
    let mut filesystem = fields.skip_while(|field| *field != b"-").skip(1);
    let mut text = || Some(String::from_utf8_lossy(filesystem.next()?).into_owned());
    let (kind, _source, options) = (text()?, text()?, text()?);
    Some(Mounted { id, device, root, point, kind, options })
}

/// Undoes the kernel's `\040` for a blank and its like. Names need not be text.
fn unescape(name: &[u8]) -> PathBuf {
    OsString::from_vec(undo(name, b'\\', 3, 8)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_escapes() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/a rw\n\
            24 1 0:22 /a\\040b /run/cuddy/a\\040b rw,nosuid shared:3 - tmpfs t rw\n\
            5 1 0:5 / /mnt/\xff\\ rw master:1 - cgroup t rw,cpu,cpuacct\n\
            broken\n";
        let found = parse(text);
        assert_eq!(found.len(), 3);
        assert_eq!((found[1].id, found[1].device), (24, (0, 22)));
        assert_eq!(found[1].root, PathBuf::from("/a b"));
        assert_eq!((found[1].kind.as_str(), found[1].options.as_str()), ("tmpfs", "rw"));
        assert_eq!(
            (found[2].kind.as_str(), found[2].options.as_str()),
            ("cgroup", "rw,cpu,cpuacct")
        );
        assert_eq!(found[1].point, PathBuf::from("/run/cuddy/a b"));
        assert_eq!(found[2].point, PathBuf::from(OsString::from_vec(b"/mnt/\xff\\".to_vec())));
    }
}
