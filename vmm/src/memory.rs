//! The guest's memory: the client's file, mapped around the hole.

pub(crate) mod huge;
mod private;
pub(crate) mod written;

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, fstat};
use vm_memory::{FileOffset, GuestAddress, GuestMemory, GuestMemoryMmap, GuestRegionMmap};
use vmm_api::MemoryMib;

use crate::arch::x86_64::layout;

pub(crate) use private::{Mappings, map as map_private};

/// Memory that can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    /// The machine would be larger than its host.
    #[error(
        "the machine's {asked} MiB of memory are more than the host's {host} MiB: \
         ask for less or use a larger host"
    )]
    LargerThanHost {
        /// Size asked for.
        asked: u64,
        /// The host's memory.
        host: u64,
    },
    /// The descriptor does not hold what the configuration says.
    #[error(
        "memory descriptor has {found} bytes, the configuration says {expected}: \
         size the file with ftruncate before the boot request"
    )]
    Size {
        /// Size of the file in bytes.
        found: i64,
        /// Size of the machine's memory in bytes.
        expected: u64,
    },
    /// The descriptor is not a file that can be mapped.
    #[error("memory descriptor is not a memfd or regular file")]
    Kind,
    /// The descriptor could not be examined.
    #[error("examine memory descriptor")]
    Examine(#[source] rustix::io::Errno),
    /// The descriptor could not be mapped.
    #[error("map memory descriptor; is it open for reading and writing?")]
    Map(#[source] vm_memory::mmap::FromRangesError),
    /// A saved machine's memory could be written.
    #[error(
        "the saved machine's memory can be written: open it for reading only, or seal it \
         (F_SEAL_WRITE)"
    )]
    Writable,
    /// A saved machine's memory could not be mapped.
    #[error("map the saved machine's memory")]
    MapSaved(#[source] rustix::io::Errno),
    /// The list of pages that clones write can't be read.
    #[error("read the list of pages that clones write")]
    Written(#[source] std::io::Error),
    /// The mapping can't be kept out of core files.
    #[error("keep the guest's memory out of core files")]
    Dumps(#[source] rustix::io::Errno),
}

/// Maps the guest's memory, shared with the client. Touches none of it.
///
/// # Errors
/// [`MemoryError`], with what the client should do.
pub(crate) fn map(file: OwnedFd, size: MemoryMib) -> Result<GuestMemoryMmap, MemoryError> {
    check(&file, size)?;
    let file = FileOffset::new(File::from(file), 0);
    let mut offset = 0;
    let mut ranges = Vec::new();
    for range in layout::memory_ranges(size.bytes()) {
        let length = range.end - range.start;
        let part = FileOffset::from_arc(file.arc().clone(), offset);
        // Both are below 256 GiB, so they fit on the 64-bit hosts that exist.
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        ranges.push((GuestAddress(range.start), bytes, Some(part)));
        offset += length;
    }
    // With a file vm-memory maps MAP_SHARED | MAP_NORESERVE.
    let memory = GuestMemoryMmap::from_ranges_with_files(ranges).map_err(MemoryError::Map)?;
    memory.iter().try_for_each(keep_from_dumps).map_err(MemoryError::Dumps)?;
    Ok(memory)
}

/// Checks that a descriptor is a file of the machine's size, and the machine no larger than its
/// host.
fn check(file: &OwnedFd, size: MemoryMib) -> Result<(), MemoryError> {
    check_host(size, host_mib())?;
    let stat = fstat(file).map_err(MemoryError::Examine)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(MemoryError::Kind);
    }
    if u64::try_from(stat.st_size) != Ok(size.bytes()) {
        return Err(MemoryError::Size { found: stat.st_size, expected: size.bytes() });
    }
    Ok(())
}

/// Keeps a region out of core files. That the process is not dumpable is not enough: the kernel
/// forgets it when the share's server acts as another user, and a core file that goes to a program
/// has no limit of size.
#[allow(unsafe_code, reason = "madvise takes the address of a mapping")]
fn keep_from_dumps(region: &GuestRegionMmap) -> Result<(), rustix::io::Errno> {
    let advice = rustix::mm::Advice::LinuxDontDump;
    // SAFETY: these are the bytes of a mapping, and the advice changes nothing that is in them.
    unsafe { rustix::mm::madvise(region.as_ptr().cast(), region.size(), advice) }
}

/// The host's memory in MiB.
fn host_mib() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram * u64::from(info.mem_unit)) >> 20
}

fn check_host(size: MemoryMib, host: u64) -> Result<(), MemoryError> {
    let asked = u64::from(size);
    if asked > host { Err(MemoryError::LargerThanHost { asked, host }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use vm_memory::Bytes;

    use super::*;

    fn mib(size: u64) -> MemoryMib {
        MemoryMib::try_from(size).unwrap()
    }

    fn file(size: u64) -> OwnedFd {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        file.into()
    }

    #[test]
    fn memory_is_the_file_behind_the_hole_too() {
        // Sparse, so that this costs neither disk nor memory.
        let size = mib(3073);
        if host_mib() < 3073 {
            return;
        }
        let file = file(size.bytes());
        let copy = file.as_fd().try_clone_to_owned().unwrap();
        let memory = map(file, size).unwrap();
        assert_eq!(memory.last_addr(), GuestAddress((4 << 30) + (1 << 20) - 1));
        memory.write_slice(b"high", GuestAddress(4 << 30)).unwrap();
        let mut bytes = [0; 4];
        rustix::io::pread(&copy, &mut bytes, 3 << 30).unwrap();
        assert_eq!(&bytes, b"high");
    }

    #[test]
    fn no_region_is_in_a_core_file() {
        let memory = map(file(64 << 20), mib(64)).unwrap();
        let region = memory.iter().next().unwrap();
        let start = format!("{:x}-", region.as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines().skip_while(|line| !line.starts_with(&start));
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
        assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
    }

    #[test]
    fn wrong_size_is_named() {
        let error = map(file(63 << 20), mib(64)).unwrap_err();
        assert!(error.to_string().contains("66060288"), "{error}");
    }

    #[test]
    fn pipe_is_refused() {
        let (read, _write) = rustix::pipe::pipe().unwrap();
        assert!(matches!(map(read, mib(64)), Err(MemoryError::Kind)));
    }

    #[test]
    fn machine_larger_than_its_host_is_refused() {
        let error = check_host(mib(8192), 4096).unwrap_err();
        assert!(error.to_string().contains("8192 MiB of memory are more than the host's 4096"));
        assert!(check_host(mib(4096), 4096).is_ok());
    }
}
