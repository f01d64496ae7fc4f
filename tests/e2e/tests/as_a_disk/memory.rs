//! Files in memory.
#![allow(unsafe_code, reason = "shared memory of a file can't be had otherwise")]

use std::fs::File;

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// Bytes of a page.
const PAGE: usize = 4096;

/// The first page of a file in memory, shared.
pub(crate) struct Page(*mut std::ffi::c_void);

impl Page {
    /// Maps it.
    pub(crate) fn new(file: &File) -> rustix::io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice, that nobody else knows.
        unsafe { mmap(std::ptr::null_mut(), PAGE, access, MapFlags::SHARED, file, 0) }.map(Self)
    }

    /// The byte at `offset` of the page.
    pub(crate) fn get(&self, offset: usize) -> u8 {
        assert!(offset < PAGE);
        let byte = self.0.cast::<u8>().wrapping_add(offset);
        // SAFETY: the mapping has that many bytes.
        unsafe { byte.read_volatile() }
    }

    /// Changes a byte.
    pub(crate) fn set(&self, offset: usize, value: u8) {
        assert!(offset < PAGE);
        let byte = self.0.cast::<u8>().wrapping_add(offset);
        // SAFETY: the mapping has that many bytes, and can be written.
        unsafe { byte.write_volatile(value) }
    }

    /// Has changes written.
    pub(crate) fn sync(&self) -> rustix::io::Result<()> {
        // SAFETY: the mapping is there as long as the value.
        unsafe { msync(self.0, PAGE, MsyncFlags::SYNC) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: nobody else knows the mapping.
        let _gone = unsafe { munmap(self.0, PAGE) };
    }
}
