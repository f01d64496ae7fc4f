//! Every address, port and interrupt line of the machine, in one table.
//!
//! ```text
//! guest-physical address          what                                    in e820
//! 0x0000_0000 - 0x0009_fbff       low memory                              usable
//!     0x500                       GDT, 5 entries of 8 bytes
//!     0x7000                      boot_params ("zero page"), 4 KiB
//!     0x9000 0xa000 0xb000        page tables: identity map of 1 GiB
//!     0x2_0000                    kernel command line, 2 KiB
//! 0x0009_fc00 - 0x000d_ffff       nothing (a PC has its EBDA, VGA and ROMs there)
//! 0x000e_0000 - 0x000f_ffff       ACPI tables, the RSDP first             reserved
//!     0xf_f000                    generation ID, 16 bytes
//! 0x0010_0000 - 0xbfff_ffff       memory up to 3 GiB, the kernel at 16 MiB  usable
//! 0xc000_0000 - 0xffff_ffff       the hole: devices, 1 GiB
//!     0xd000_0000 + i * 0x200     virtio-mmio window i, 64 of them
//!     0xfec0_0000                 IOAPIC (KVM)
//!     0xfee0_0000                 local APICs (KVM)
//!     0xfffb_c000                 KVM's identity map page, then 3 pages of its TSS
//! 0x1_0000_0000 - ...             memory past 3 GiB                       usable
//!
//! I/O port                        what
//! 0x3f8 - 0x3ff                   serial port, with early_serial only
//! 0x505                           pvpanic
//! 0x600                           reset register
//! 0x604, 0x605                    ACPI sleep control and sleep status
//!
//! interrupt line (IOAPIC pin)     what
//! 4                               serial port, with early_serial only
//! 5                               another generation
//! 8 - 23                          windows: line 8 + i % 16
//! ```

use std::ops::Range;

use virtio::mmio::WINDOW_SIZE;
use vmm_api::{WINDOWS, Window};

/// The GDT that the boot protocol's segment selectors point into.
pub(crate) const GDT: u64 = 0x500;

/// The boot parameters, one page.
pub(crate) const ZERO_PAGE: u64 = 0x7000;

/// Top level of the boot page tables.
pub(crate) const PML4: u64 = 0x9000;

/// Second level of the boot page tables.
pub(crate) const PDPT: u64 = 0xa000;

/// Third level of the boot page tables: 512 pages of 2 MiB.
pub(crate) const PAGE_DIRECTORY: u64 = 0xb000;

/// The kernel's command line.
pub(crate) const CMDLINE: u64 = 0x2_0000;

/// Longest command line that Linux reads on x86, with its terminating zero
/// (`COMMAND_LINE_SIZE`).
pub(crate) const CMDLINE_MAX: usize = 2048;

/// End of the low memory that the kernel may use: where a PC's EBDA starts.
pub(crate) const LOW_MEMORY_END: u64 = 0x9_fc00;

/// The ACPI tables. Linux finds them by the address in the boot parameters; the range is the
/// one that a scan for an RSDP would look at, too.
pub(crate) const ACPI: Range<u64> = 0xe_0000..0x10_0000;

/// The generation ID (VMGENID), in a page of its own that no table reaches.
pub(crate) const GENERATION: u64 = 0xf_f000;

/// Start of the memory above the first megabyte.
pub(crate) const HIGH_MEMORY: u64 = 0x10_0000;

/// The part of the address space below 4 GiB that holds devices instead of memory. A whole
/// GiB, so that memory on both sides of it can be mapped with pages of 1 GiB.
pub(crate) const HOLE: Range<u64> = 0xc000_0000..0x1_0000_0000;

/// Window 0; the others follow.
pub(crate) const WINDOW_BASE: u64 = 0xd000_0000;

/// All windows.
pub(crate) const WINDOW_RANGE: Range<u64> = WINDOW_BASE..WINDOW_BASE + WINDOW_SIZE * WINDOWS as u64;

/// KVM's IOAPIC (fixed in KVM).
pub(crate) const IOAPIC: u32 = 0xfec0_0000;

/// The local APICs (architectural default).
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;

/// A page that KVM uses for real mode on old Intel processors; outside of all else.
pub(crate) const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// Three pages that KVM uses likewise, right behind the identity map.
pub(crate) const KVM_TSS: u32 = 0xfffb_d000;

/// First port of the serial port.
pub(crate) const SERIAL_PORT: u16 = 0x3f8;

/// Number of ports of the serial port.
pub(crate) const SERIAL_PORTS: u16 = 8;

/// The panic device's port, QEMU's usual one.
pub(crate) const PVPANIC_PORT: u16 = 0x505;

/// The ACPI reset register.
pub(crate) const RESET_PORT: u16 = 0x600;

/// The ACPI sleep control register.
pub(crate) const SLEEP_CONTROL_PORT: u16 = 0x604;

/// The ACPI sleep status register.
pub(crate) const SLEEP_STATUS_PORT: u16 = 0x605;

/// What the guest writes to the reset register to be reset.
pub(crate) const RESET_VALUE: u8 = 1;

/// Sleep type of S5 in the sleep control register; any number but zero would do.
pub(crate) const SLEEP_TYPE_S5: u8 = 5;

/// Interrupt line of the serial port.
pub(crate) const SERIAL_LINE: u32 = 4;

/// Interrupt line by which a machine learns that it is another one now: a clone of a saved one.
/// Every line from 8 on belongs to windows.
pub(crate) const GENERATION_LINE: u32 = 5;

/// Number of IOAPIC pins (KVM's `KVM_IOAPIC_NUM_PINS`).
pub(crate) const IOAPIC_PINS: u32 = 24;

/// First interrupt line of the windows.
const WINDOW_LINE: u32 = 8;

/// Number of interrupt lines that the windows share.
const WINDOW_LINES: u32 = IOAPIC_PINS - WINDOW_LINE;

/// Where a window's registers are.
pub(crate) fn window_address(window: Window) -> u64 {
    WINDOW_BASE + u64::from(window.index()) * WINDOW_SIZE
}

/// The interrupt line of a window. The first 16 devices, more than nearly every pod has, get
/// a line of their own; the others share.
pub(crate) fn window_line(window: Window) -> u32 {
    WINDOW_LINE + u32::from(window.index()) % WINDOW_LINES
}

/// Bytes that Linux allocates beside the map of its pages before it frees memory for general use.
const FIRST_TABLES: u64 = 4 << 20;

/// Where `size` bytes of memory sit in the guest's address space: below the hole, and what
/// does not fit there from 4 GiB up.
pub(crate) fn memory_ranges(size: u64) -> Vec<Range<u64>> {
    let low = size.min(HOLE.start);
    let high = size - low;
    let ranges = [0..low, HOLE.end..HOLE.end + high];
    ranges.into_iter().filter(|range| !range.is_empty()).collect()
}

/// The part of `size` bytes of memory that Linux uses first and whole: its early allocator takes
/// from the top down. That is the map of all pages, 64 bytes for each of 4096, and what each CPU and
/// the first hash tables get.
pub(crate) fn first_allocations(size: u64) -> Option<Range<u64>> {
    let top = memory_ranges(size).pop()?;
    let map = (size / (4096 / 64)).next_multiple_of(2 << 20);
    let bytes = map + FIRST_TABLES;
    Some(top.end.saturating_sub(bytes).max(top.start)..top.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_allocations_are_at_the_top_of_the_last_range() {
        let mib = |range: Range<u64>| (range.start >> 20, range.end >> 20);
        assert_eq!(first_allocations(512 << 20).map(mib), Some((500, 512)));
        // What is above the hole is smaller than what Linux takes.
        let size = (3 << 30) + (16 << 20);
        assert_eq!(first_allocations(size).map(mib), Some((4096, 4112)));
    }

    fn window(index: u8) -> Window {
        Window::try_from(index).unwrap()
    }

    #[test]
    fn memory_is_split_around_the_hole_without_loss() {
        assert_eq!(memory_ranges(64 << 20), std::slice::from_ref(&(0..64 << 20)));
        assert_eq!(memory_ranges(3 << 30), std::slice::from_ref(&(0..3 << 30)));
        assert_eq!(memory_ranges(4 << 30), [0..3 << 30, 4 << 30..5 << 30]);
        let ranges = memory_ranges(256 << 30);
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        assert_eq!(total, 256 << 30);
    }

    #[test]
    fn windows_sit_in_the_hole_apart_from_everything_else() {
        assert!(HOLE.contains(&WINDOW_RANGE.start));
        assert!(WINDOW_RANGE.end <= u64::from(IOAPIC));
        const { assert!(IOAPIC < LOCAL_APIC) };
        assert!(u64::from(LOCAL_APIC) + 0x1000 <= KVM_IDENTITY_MAP);
        assert_eq!(KVM_IDENTITY_MAP + 0x1000, u64::from(KVM_TSS));
        assert_eq!(window_address(window(63)) + WINDOW_SIZE, WINDOW_RANGE.end);
    }

    #[test]
    fn window_lines_are_pins_of_the_ioapic_and_never_the_serial_port() {
        for index in 0..WINDOWS {
            let line = window_line(window(index));
            assert!(line < IOAPIC_PINS && line != SERIAL_LINE, "window {index}: {line}");
            assert_ne!(line, GENERATION_LINE, "window {index}");
        }
        assert_ne!(window_line(window(0)), window_line(window(15)));
        assert_eq!(window_line(window(0)), window_line(window(16)));
    }

    #[test]
    fn structures_in_low_memory_do_not_overlap() {
        let starts =
            [GDT, ZERO_PAGE, PML4, PDPT, PAGE_DIRECTORY, CMDLINE, LOW_MEMORY_END, ACPI.start];
        let sizes = [40, 4096, 4096, 4096, 4096, CMDLINE_MAX as u64, 0, 0];
        for (pair, size) in starts.windows(2).zip(sizes) {
            assert!(pair[0] + size <= pair[1], "{:#x} runs into {:#x}", pair[0], pair[1]);
        }
    }
}
