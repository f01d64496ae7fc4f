//! A saved machine's memory as a clone has it: the file's pages until it writes to them, pages of
//! its own from then on.
//!
//! ```text
//! file      ████████░░░░░░░░░░░░████░░░░       data and holes, in units of 2 MiB
//! mapping   ffffffffaaaaaaaaaaaaffffaaaa       f: the file, private   a: anonymous
//! ```
//!
//! Where the file has nothing, the mapping is anonymous. A private fault on a hole would first make
//! a page in the file. It would stay for ever, and whoever came first would pay it. Nothing is read
//! now. A place in the guest, in this process and in the file is the same modulo 2 MiB. So the
//! host's kernel can map the huge pages that the file has, as those of the guest's kernel.
#![allow(unsafe_code, reason = "maps a file over a reserved range, by address")]

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};

use rustix::fs::{OFlags, SealFlags, SeekFrom, fcntl_get_seals, fcntl_getfl, seek};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::process::set_virtual_memory_region_name;
use vm_memory::mmap::FromRangesError;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};
use vmm_api::MemoryMib;

use super::{MemoryError, check, keep_from_dumps};
use crate::arch::x86_64::layout;

/// Unit in which the file and anonymous memory take turns, and size of a huge page.
const UNIT: u64 = 2 << 20;

/// Mappings that are not undone by those who use them.
#[derive(Debug)]
pub(crate) struct Mappings(Vec<Mapping>);

impl Mappings {
    /// Keeps the mappings until the process ends: who holds the memory can't be known any more.
    pub(crate) fn keep(self) {
        self.0.into_iter().for_each(std::mem::forget);
    }
}

/// A range of this process's addresses, unmapped with this value.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the range belongs to this value alone, whichever thread has it.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this value's own, and who had the memory is gone.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Maps a saved machine's memory. The memory must not be used longer than the mappings are kept.
///
/// # Errors
/// [`MemoryError`], with what the client should do.
pub(crate) fn map(
    file: OwnedFd,
    size: MemoryMib,
) -> Result<(GuestMemoryMmap, Mappings), MemoryError> {
    check(&file, size)?;
    check_unwritable(file.as_fd())?;
    let (mut mappings, mut regions, mut offset) = (Vec::new(), Vec::new(), 0);
    for range in layout::memory_ranges(size.bytes()) {
        let length = range.end - range.start;
        let part = offset..offset + length;
        let mapping = map_part(file.as_fd(), part).map_err(MemoryError::MapSaved)?;
        regions.push(region(&mapping, range.start, length)?);
        mappings.push(mapping);
        offset += length;
    }
    let memory = GuestMemoryMmap::from_regions(regions);
    let memory = memory.map_err(|error| MemoryError::Map(FromRangesError::Collection(error)))?;
    Ok((memory, Mappings(mappings)))
}

/// The attack: a guest that has broken out of a clone changes what all other clones start from.
fn check_unwritable(file: BorrowedFd<'_>) -> Result<(), MemoryError> {
    let flags = fcntl_getfl(file).map_err(MemoryError::Examine)?;
    // Not every file has seals.
    let seals = fcntl_get_seals(file).unwrap_or(SealFlags::empty());
    let sealed = seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE);
    let read_only = flags & OFlags::RWMODE == OFlags::RDONLY;
    if read_only || sealed { Ok(()) } else { Err(MemoryError::Writable) }
}

/// Maps a part of the file at a place that is the part's own modulo [`UNIT`].
fn map_part(file: BorrowedFd<'_>, part: Range<u64>) -> Result<Mapping, Errno> {
    let mapping = reserve(as_usize(part.end - part.start))?;
    for data in data_units(file, part.clone())? {
        let length = as_usize(data.end - data.start);
        // SAFETY: within the mapping, which is `part` long.
        let place = unsafe { mapping.start.add(as_usize(data.start - part.start)) };
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        let flags = flags | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: replaces a part of the mapping, which nobody uses yet.
        unsafe { mmap(place.as_ptr().cast(), length, access, flags, file, data.start) }?;
    }
    Ok(mapping)
}

/// Empty memory of `length` bytes at a multiple of [`UNIT`]. No huge pages: a clone touches few
/// pages here and there.
fn reserve(length: usize) -> Result<Mapping, Errno> {
    let unit = as_usize(UNIT);
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    let whole = length + unit;
    // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
    let start = unsafe { mmap_anonymous(null_mut(), whole, access, flags | MapFlags::NORESERVE) }?;
    let skip = start.addr().next_multiple_of(unit) - start.addr();
    let start = NonNull::new(start.cast::<u8>()).ok_or(Errno::INVAL)?;
    // SAFETY: `skip` is less than `unit`, the mapping longer.
    let aligned = unsafe { start.add(skip) };
    // SAFETY: the end of the aligned range is within the mapping, or its end.
    let end = unsafe { aligned.add(length) };
    // What is not needed goes with these values.
    if skip > 0 {
        drop(Mapping { start, length: skip });
    }
    drop(Mapping { start: end, length: unit - skip });
    let mapping = Mapping { start: aligned, length };
    // SAFETY: the range is mapped; the advice changes no byte of it. A kernel without huge pages
    // does not know the advice.
    let _ = unsafe { madvise(aligned.as_ptr().cast(), length, Advice::LinuxNoHugepage) };
    // SAFETY: the range is mapped, and reads as zeroes.
    let bytes = unsafe { std::slice::from_raw_parts(aligned.as_ptr(), length) };
    // For people and tests, as the file of a machine that boots has the same name. A kernel need not
    // know it.
    let _ = set_virtual_memory_region_name(bytes, Some(c"cuddy-guest"));
    Ok(mapping)
}

/// The parts of the file's `part` that have data, in whole units.
fn data_units(file: BorrowedFd<'_>, part: Range<u64>) -> Result<Vec<Range<u64>>, Errno> {
    let mut units: Vec<Range<u64>> = Vec::new();
    let mut at = part.start;
    while at < part.end {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) if data < part.end => data / UNIT * UNIT,
            // There is none.
            Ok(_) | Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        let hole = seek(file, SeekFrom::Hole(data.max(at)))?;
        let end = hole.max(data + 1).next_multiple_of(UNIT).min(part.end);
        let start = data.max(part.start);
        match units.last_mut() {
            Some(last) if last.end >= start => last.end = end,
            _ => units.push(start..end),
        }
        at = end;
    }
    Ok(units)
}

/// A mapping as a region of the guest's memory from `address` on.
fn region(mapping: &Mapping, address: u64, length: u64) -> Result<GuestRegionMmap, MemoryError> {
    let (start, access) = (mapping.start.as_ptr(), libc::PROT_READ | libc::PROT_WRITE);
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    // SAFETY: the mapping is as long and stays as long as the caller keeps it.
    let region = unsafe { MmapRegion::build_raw(start, as_usize(length), access, flags) };
    let region = region.map_err(|error| MemoryError::Map(FromRangesError::MmapRegion(error)))?;
    let region = GuestRegionMmap::new(region, GuestAddress(address));
    let region = region.ok_or(MemoryError::Map(FromRangesError::InvalidGuestRegion))?;
    keep_from_dumps(&region).map_err(MemoryError::Dumps)?;
    Ok(region)
}

/// Lossless on every machine that has KVM.
fn as_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
