//! The file that is a guest's memory.

use std::io;
use std::os::fd::OwnedFd;

use host::mounts::tmpfs;
use rustix::fs::{AtFlags, Mode, OFlags, ftruncate, openat, unlinkat};

/// What `/proc/PID/smaps` of the VMM calls the guest's memory, for people.
const NAME: &str = "cuddy-guest";

/// A file of `bytes` bytes, already deleted, on a tmpfs of its own that is mounted nowhere. Its
/// pages exist from their first use on. Unlike a memfd's, they may be huge where the VMM asks
/// for it, whatever the host's `shmem_enabled` says: the guest's kernel, all of which is used.
///
/// # Errors
/// What the kernel answered; it takes the right to mount, and Linux 5.2 for the calls.
pub fn guest_memory(bytes: u64) -> io::Result<OwnedFd> {
    // One inode is the file's, one the directory's.
    let mount = tmpfs(&[("huge", "advise"), ("size", &bytes.to_string()), ("nr_inodes", "2")])?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let memory = openat(&mount, NAME, flags, Mode::RUSR | Mode::WUSR)?;
    unlinkat(&mount, NAME, AtFlags::empty())?;
    ftruncate(&memory, bytes)?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_the_size_asked_for_and_costs_nothing() {
        // Tests run as root; without the right to mount this can't work.
        let memory = guest_memory(64 << 20).unwrap();
        let stat = rustix::fs::fstat(&memory).unwrap();
        assert_eq!(stat.st_size, 64 << 20);
        assert_eq!(stat.st_blocks, 0);
        let all = vec![7; 1 << 20];
        for part in 0..64 {
            rustix::io::pwrite(&memory, &all, part << 20).unwrap();
        }
    }
}
