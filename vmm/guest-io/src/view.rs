//! Guest memory of the type that the file server's library insists on.
#![allow(unsafe_code, reason = "a second description of a mapping that exists")]

use std::io;

use vhost_user_backend::bitmap::BitmapMmapRegion;
use vm_memory::{GuestMemory, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MmapRegion};

/// The same memory, mapped once, with the library's log of changed pages, which is never on.
#[derive(Debug)]
pub struct View {
    memory: GuestMemoryMmap<BitmapMmapRegion>,
    /// What owns the mappings.
    _owner: GuestMemoryMmap,
}

impl View {
    /// A view of `memory`, which lives at least as long.
    ///
    /// # Errors
    /// None, as long as `memory` itself is valid.
    pub fn new(memory: &GuestMemoryMmap) -> io::Result<Self> {
        let regions: Option<Vec<_>> = memory.iter().map(view).collect();
        let regions = regions.ok_or(io::ErrorKind::InvalidInput)?;
        let memory = memory.clone();
        let view = GuestMemoryMmap::from_regions(regions).map_err(io::Error::other)?;
        Ok(Self { memory: view, _owner: memory })
    }

    /// The memory.
    pub fn memory(&self) -> &GuestMemoryMmap<BitmapMmapRegion> {
        &self.memory
    }
}

fn view(region: &GuestRegionMmap) -> Option<GuestRegionMmap<BitmapMmapRegion>> {
    let (address, size) = (region.as_ptr(), region.size());
    // SAFETY: the mapping is valid for as long as the view, which holds on to its owner.
    let mapping = unsafe { MmapRegion::build_raw(address, size, region.prot(), region.flags()) };
    GuestRegionMmap::new(mapping.ok()?, region.start_addr())
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;

    #[test]
    fn both_are_the_same_memory() {
        let ranges = [(GuestAddress(0), 0x1000), (GuestAddress(0x8000), 0x2000)];
        let memory = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        let view = View::new(&memory).unwrap();
        memory.write_slice(b"there", GuestAddress(0x8ff0)).unwrap();
        drop(memory);
        let mut seen = [0; 5];
        view.memory().read_slice(&mut seen, GuestAddress(0x8ff0)).unwrap();
        assert_eq!(&seen, b"there");
        assert!(view.memory().read_slice(&mut seen, GuestAddress(0x4000)).is_err());
    }
}
