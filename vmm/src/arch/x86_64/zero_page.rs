//! The boot parameters that a boot loader hands to Linux, as far as the 64-bit entry needs
//! them (Linux `Documentation/arch/x86/{zero-page,boot}.rst`).

use std::ops::Range;

use super::layout;

/// Size of the boot parameters in bytes.
pub(crate) const SIZE: usize = 4096;

/// Offsets in the zero page.
mod offset {
    /// Physical address of the RSDP.
    pub(super) const ACPI_RSDP: usize = 0x070;
    /// Number of e820 entries.
    pub(super) const E820_COUNT: usize = 0x1e8;
    /// Magic number of a boot sector.
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    /// Magic number "HdrS".
    pub(super) const HEADER: usize = 0x202;
    /// Boot protocol version.
    pub(super) const VERSION: usize = 0x206;
    /// Who loaded the kernel; 0xff is "somebody without a number".
    pub(super) const TYPE_OF_LOADER: usize = 0x210;
    /// Physical address of the command line.
    pub(super) const CMDLINE: usize = 0x228;
    /// Length of the command line without its zero.
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    /// The e820 entries.
    pub(super) const E820_TABLE: usize = 0x2d0;
}

/// Protocol 2.12 is the first with the 64-bit entry.
const PROTOCOL_VERSION: u16 = 0x020c;

/// Kinds of e820 entries.
const E820_USABLE: u32 = 1;
const E820_RESERVED: u32 = 2;

/// Size of one e820 entry: start, length, kind.
const E820_ENTRY: usize = 20;

/// The memory map of a machine with `memory` bytes, as (range, kind).
pub(crate) fn memory_map(memory: u64) -> Vec<(Range<u64>, u32)> {
    let mut map = vec![(0..layout::LOW_MEMORY_END, E820_USABLE), (layout::ACPI, E820_RESERVED)];
    for range in layout::memory_ranges(memory) {
        map.push((range.start.max(layout::HIGH_MEMORY)..range.end, E820_USABLE));
    }
    map
}

/// The boot parameters of a machine with `memory` bytes whose command line, at
/// [`layout::CMDLINE`], has `cmdline_len` bytes.
pub(crate) fn build(memory: u64, cmdline_len: u32) -> Vec<u8> {
    let map = memory_map(memory);
    let mut page = vec![0; SIZE];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(offset::ACPI_RSDP, &layout::ACPI.start.to_le_bytes());
    // The map has at most four entries.
    put(offset::E820_COUNT, &map.len().to_le_bytes()[..1]);
    put(offset::BOOT_FLAG, &0xaa55_u16.to_le_bytes());
    put(offset::HEADER, b"HdrS");
    put(offset::VERSION, &PROTOCOL_VERSION.to_le_bytes());
    put(offset::TYPE_OF_LOADER, &[0xff]);
    put(offset::CMDLINE, &layout::CMDLINE.to_le_bytes()[..4]);
    put(offset::CMDLINE_SIZE, &cmdline_len.to_le_bytes());
    for (index, (range, kind)) in map.iter().enumerate() {
        let at = offset::E820_TABLE + index * E820_ENTRY;
        put(at, &range.start.to_le_bytes());
        put(at + 8, &(range.end - range.start).to_le_bytes());
        put(at + 16, &kind.to_le_bytes());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_map_leaves_out_the_hole_and_the_tables() {
        let map = memory_map(4 << 30);
        assert_eq!(
            map,
            [
                (0..0x9_fc00, E820_USABLE),
                (0xe_0000..0x10_0000, E820_RESERVED),
                (0x10_0000..3 << 30, E820_USABLE),
                (4 << 30..5 << 30, E820_USABLE),
            ]
        );
        assert_eq!(memory_map(64 << 20).len(), 3);
    }

    #[test]
    fn page_holds_what_the_kernel_looks_for() {
        let page = build(64 << 20, 11);
        assert_eq!(page.len(), SIZE);
        assert_eq!(page[0x1fe..0x200], [0x55, 0xaa]);
        assert_eq!(&page[0x202..0x206], b"HdrS");
        assert_eq!(page[0x1e8], 3);
        assert_eq!(page[0x70..0x78], 0xe_0000_u64.to_le_bytes());
        assert_eq!(page[0x238..0x23c], 11_u32.to_le_bytes());
        // A byte that is not zero here makes Linux distrust the whole page.
        assert_eq!(page[0x1ef], 0);
    }
}
