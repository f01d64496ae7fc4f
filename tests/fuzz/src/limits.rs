//! The memory that a target may use: what a guest can make the host allocate has a limit.
#![allow(unsafe_code, reason = "an allocator is made of unsafe calls")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most bytes of one allocation.
static LARGEST: AtomicUsize = AtomicUsize::new(usize::MAX);

struct Limited;

/// Ends the program if a limit is set and `size` is beyond it.
fn check(size: usize) {
    let largest = LARGEST.load(Ordering::Relaxed);
    // A panic's message needs memory too.
    if size > largest && !std::thread::panicking() {
        panic!("an allocation of {size} bytes, more than {largest}");
    }
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Does `work`, during which no allocation may be larger than `largest` bytes.
pub(crate) fn within<T>(largest: usize, work: impl FnOnce() -> T) -> T {
    LARGEST.store(largest, Ordering::Relaxed);
    let done = work();
    LARGEST.store(usize::MAX, Ordering::Relaxed);
    done
}
