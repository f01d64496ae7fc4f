//! The pages that clones of a saved machine are known to write. Each clone gets its copies of them
//! at once, before it runs: one by one they would cost it an exit and two faults each.
#![allow(unsafe_code, reason = "asks the host's kernel for pages of a mapping")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use vm_memory::{Address, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};
use vmm_api::pages::{self, PAGE, Run};

/// Reads a list of pages.
///
/// # Errors
/// What the file answers.
pub(crate) fn read(file: OwnedFd) -> io::Result<Vec<Run>> {
    let mut bytes = vec![0; pages::MAX_BYTES];
    let length = File::from(file).read_at(&mut bytes, 0)?;
    Ok(pages::decode(&bytes[..length]).collect())
}

/// Gives the machine pages of its own for those of `runs` that it has. What can't be had now it gets
/// when it writes: the host may be too old (Linux 5.14 is needed), or the memory's limit near.
pub(crate) fn populate(memory: &GuestMemoryMmap, runs: &[Run]) {
    let ranges = memory.iter().map(|region| {
        let start = region.start_addr().raw_value();
        start..start + region.len()
    });
    let ranges: Vec<_> = ranges.collect();
    for place in runs.iter().flat_map(|run| places(&ranges, *run)) {
        if let Err(error) = populate_range(memory, place.clone()) {
            log::debug!("no pages in advance at {:#x}: {error}", place.start);
            return;
        }
    }
}

fn populate_range(memory: &GuestMemoryMmap, range: Range<u64>) -> Result<(), Errno> {
    let length = usize::try_from(range.end - range.start).map_err(|_| Errno::INVAL)?;
    let slice = memory.get_slice(GuestAddress(range.start), length).map_err(|_| Errno::FAULT)?;
    let place = slice.ptr_guard_mut();
    // SAFETY: the slice is `length` bytes of a mapping that lives as long as `memory`; the advice
    // changes no byte of it.
    unsafe { madvise(place.as_ptr().cast(), length, Advice::LinuxPopulateWrite) }
}

/// Where the pages of a run are in the guest's address space, as far as they are of its memory, which
/// is at `ranges`.
fn places(ranges: &[Range<u64>], run: Run) -> impl Iterator<Item = Range<u64>> {
    let start = u64::from(run.first) * PAGE;
    let end = start + u64::from(run.count) * PAGE;
    let mut offset = 0;
    ranges.iter().filter_map(move |range| {
        let part = offset..offset + (range.end - range.start);
        offset = part.end;
        let (start, end) = (start.max(part.start), end.min(part.end));
        (start < end).then(|| range.start + start - part.start..range.start + end - part.start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::layout;

    fn places_of(size: u64, first: u32, count: u32) -> Vec<Range<u64>> {
        places(&layout::memory_ranges(size), Run { first, count }).collect()
    }

    #[test]
    fn pages_are_found_on_both_sides_of_the_hole() {
        let gib = 1 << 30;
        let pages = |bytes: u64| u32::try_from(bytes / PAGE).unwrap();
        assert_eq!(places_of(4 * gib, 1, 2), std::slice::from_ref(&(0x1000..0x3000)));
        let around = [0xbfff_f000..0xc000_0000_u64, 0x1_0000_0000..0x1_0000_1000];
        assert_eq!(places_of(4 * gib, pages(3 * gib) - 1, 2), around);
        assert_eq!(places_of(4 * gib, pages(4 * gib), 1), []);
        let last = pages(64 << 20) - 1;
        let rest = places_of(64 << 20, last, u32::MAX);
        assert_eq!(rest, std::slice::from_ref(&(0x3ff_f000..0x400_0000)));
        assert_eq!(places_of(4 * gib, u32::MAX, u32::MAX), []);
    }
}
