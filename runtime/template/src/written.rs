//! Which pages of its memory a clone has written: its own copy of a page is no page of the file. The
//! host's kernel tells that of the VMM's process (`Documentation/admin-guide/mm/pagemap.rst`).

use std::fs::{File, Metadata, read_to_string};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{major, minor};
use vmm_api::pages::{self, PAGE, Run};

/// The page is in memory (bit 63), and in this process only (bit 56).
const OWN: u64 = 1 << 63 | 1 << 56;

/// The page is a file's (bit 61).
const OF_FILE: u64 = 1 << 61;

/// Bytes of a page's entry.
const ENTRY: u64 = 8;

/// A mapping of the memory file in a process.
#[derive(Debug, PartialEq, Eq)]
struct Mapped {
    addresses: Range<u64>,
    offset: u64,
}

/// The pages of a memory file that process `pid`, which has mapped it for itself, has written.
///
/// # Errors
/// What the kernel answers.
pub(crate) fn pages_of(pid: u32, memory: &Metadata) -> io::Result<Vec<Run>> {
    let maps = read_to_string(format!("/proc/{pid}/maps"))?;
    let mut mapped: Vec<_> = maps.lines().filter_map(|line| parse(line, memory)).collect();
    mapped.sort_by_key(|part| part.offset);
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
    let mut written = Vec::new();
    for part in &mapped {
        add_written(&mut written, part, &pagemap)?;
    }
    Ok(pages::runs(written))
}

fn add_written(written: &mut Vec<u32>, part: &Mapped, pagemap: &File) -> io::Result<()> {
    let (first, end) = (part.addresses.start / PAGE, part.addresses.end / PAGE);
    let length = usize::try_from((end - first) * ENTRY).map_err(io::Error::other)?;
    let mut entries = vec![0; length];
    pagemap.read_exact_at(&mut entries, first * ENTRY)?;
    for (page, entry) in (part.offset / PAGE..).zip(entries.chunks_exact(size_of::<u64>())) {
        let entry = entry.try_into().map(u64::from_ne_bytes).map_err(io::Error::other)?;
        if entry & OWN == OWN && entry & OF_FILE == 0 {
            written.push(u32::try_from(page).map_err(io::Error::other)?);
        }
    }
    Ok(())
}

/// The mapping in a line of `/proc/PID/maps`, if it is a writable one of the file.
fn parse(line: &str, file: &Metadata) -> Option<Mapped> {
    let mut words = line.split_ascii_whitespace();
    let (addresses, access, offset) = (words.next()?, words.next()?, words.next()?);
    let (device, inode) = (words.next()?, words.next()?);
    let here = format!("{:02x}:{:02x}", major(file.dev()), minor(file.dev()));
    if access != "rw-p" || device != here || inode.parse() != Ok(file.ino()) {
        return None;
    }
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = addresses.split_once('-')?;
    Some(Mapped { addresses: hex(start)?..hex(end)?, offset: hex(offset)? })
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

    use super::*;

    #[test]
    fn pages_that_were_written_are_told_and_no_others() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 64 << 10], 0).unwrap();
        let (access, private) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
        let offset = FileOffset::new(file.try_clone().unwrap(), 16 << 10);
        let mapped = MmapRegion::<()>::build(Some(offset), 48 << 10, access, private).unwrap();
        let memory = mapped.as_volatile_slice();
        for page in [1, 2, 5] {
            memory.write_obj(1_u8, page * 4096 + 9).unwrap();
        }
        assert_eq!(memory.read_obj::<u8>(8 * 4096).unwrap(), 7);
        let written = pages_of(std::process::id(), &file.metadata().unwrap()).unwrap();
        assert_eq!(written, [Run { first: 5, count: 2 }, Run { first: 9, count: 1 }]);
    }

    #[test]
    fn only_the_files_own_mappings_are_looked_at() {
        let file = tempfile::tempfile().unwrap().metadata().unwrap();
        let (device, inode) =
            (format!("{:02x}:{:02x}", major(file.dev()), minor(file.dev())), file.ino());
        let line = |access: &str, inode: u64| {
            format!("7f0000200000-7f0000400000 {access} 00600000 {device} {inode}       /")
        };
        let expected = Mapped { addresses: 0x7f00_0020_0000..0x7f00_0040_0000, offset: 0x60_0000 };
        assert_eq!(parse(&line("rw-p", inode), &file), Some(expected));
        assert_eq!(parse(&line("r--p", inode), &file), None);
        assert_eq!(parse(&line("rw-p", inode + 1), &file), None);
        assert_eq!(parse("7f0000200000-7f0000400000 rw-p 00000000 00:00 0", &file), None);
        assert_eq!(parse("", &file), None);
    }
}
