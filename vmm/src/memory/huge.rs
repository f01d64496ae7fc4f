//! Huge pages for the parts of a guest's memory that it uses whole while it boots. Each small page
//! costs a fault of the host's and one of KVM's.

#![allow(unsafe_code, reason = "advises the host's kernel about a mapping")]

use std::ops::Range;

use rustix::mm::{Advice, madvise};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

/// Size of a huge page in bytes.
const HUGE: u64 = 2 << 20;

/// Asks for huge pages in all of `range`, guest addresses, as far as the memory goes. The file
/// behind the memory has to allow them; without them all is only slower.
pub(crate) fn ask_for(memory: &GuestMemoryMmap, range: Range<u64>) {
    let start = range.start / HUGE * HUGE;
    let size = usize::try_from(range.end.next_multiple_of(HUGE) - start).unwrap_or(usize::MAX);
    let Ok(slice) = memory.get_slice(GuestAddress(start), size) else { return };
    let place = slice.ptr_guard_mut();
    // SAFETY: the slice is `size` bytes of a mapping that lives as long as `memory`; the advice
    // changes no byte of it.
    let advised = unsafe { madvise(place.as_ptr().cast(), size, Advice::LinuxHugepage) };
    if let Err(error) = advised {
        log::debug!("no huge pages at {start:#x}: {error}");
    }
}
