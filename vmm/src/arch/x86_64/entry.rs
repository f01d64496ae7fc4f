//! The state in which the first vCPU enters a kernel (Linux `Documentation/arch/x86/boot.rst`,
//! "64-bit boot protocol"). It is in 64-bit mode, with paging on and the first GiB mapped onto
//! itself. Interrupts are off, and `rsi` points to the boot parameters.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use super::layout;

/// Selector of the boot protocol's code segment (`__BOOT_CS`).
const BOOT_CS: u16 = 0x10;

/// Selector of the boot protocol's data segment (`__BOOT_DS`).
const BOOT_DS: u16 = 0x18;

/// Selector of a task segment; the processor wants one in 64-bit mode.
const BOOT_TSS: u16 = 0x20;

/// Control and feature bits (AMD64 Architecture Programmer's Manual, volume 2, §3.1).
mod bit {
    /// CR0: protected mode.
    pub(super) const CR0_PE: u64 = 1;
    /// CR0: the x87 extension type, always one.
    pub(super) const CR0_ET: u64 = 1 << 4;
    /// CR0: paging.
    pub(super) const CR0_PG: u64 = 1 << 31;
    /// CR4: physical address extension, required in 64-bit mode.
    pub(super) const CR4_PAE: u64 = 1 << 5;
    /// EFER: 64-bit mode enabled.
    pub(super) const EFER_LME: u64 = 1 << 8;
    /// EFER: 64-bit mode active.
    pub(super) const EFER_LMA: u64 = 1 << 10;
    /// RFLAGS: reserved, always one.
    pub(super) const RFLAGS_RESERVED: u64 = 1 << 1;
    /// Page table entry: present.
    pub(super) const PTE_PRESENT: u64 = 1;
    /// Page table entry: writable.
    pub(super) const PTE_WRITABLE: u64 = 1 << 1;
    /// Page directory entry: a page of 2 MiB.
    pub(super) const PDE_LARGE: u64 = 1 << 7;
}

/// A flat 64-bit code segment, present, for ring 0: what KVM loads and what the GDT says.
fn code_segment() -> kvm_segment {
    kvm_segment {
        limit: 0xf_ffff,
        selector: BOOT_CS,
        type_: 0b1011, // code: executed, readable, accessed
        present: 1,
        l: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}

/// A flat data segment.
fn data_segment() -> kvm_segment {
    kvm_segment {
        limit: 0xf_ffff,
        selector: BOOT_DS,
        type_: 0b0011, // data: writable, accessed
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}

/// A task segment; never used.
fn task_segment() -> kvm_segment {
    kvm_segment {
        limit: 0xf_ffff,
        selector: BOOT_TSS,
        type_: 0b1011, // 64-bit task segment, busy
        present: 1,
        g: 1,
        ..Default::default()
    }
}

/// A segment as its descriptor in the GDT (AMD64 APM volume 2, §4.7); the base is zero.
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(segment.limit);
    (limit & 0xffff)
        | u64::from(segment.type_) << 40
        | u64::from(segment.s) << 44
        | u64::from(segment.dpl) << 45
        | u64::from(segment.present) << 47
        | (limit >> 16 & 0xf) << 48
        | u64::from(segment.l) << 53
        | u64::from(segment.db) << 54
        | u64::from(segment.g) << 55
}

/// The GDT that goes to [`layout::GDT`].
pub(crate) fn gdt() -> Vec<u8> {
    let entries = [
        0,
        0,
        descriptor(&code_segment()),
        descriptor(&data_segment()),
        descriptor(&task_segment()),
    ];
    entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

/// The page tables that map the first GiB onto itself, each with its address. The kernel's
/// entry code builds its own before it leaves them.
pub(crate) fn page_tables() -> [(u64, Vec<u8>); 3] {
    let link = bit::PTE_PRESENT | bit::PTE_WRITABLE;
    let directory =
        (0..512_u64).flat_map(|page| (page << 21 | link | bit::PDE_LARGE).to_le_bytes()).collect();
    [
        (layout::PML4, (layout::PDPT | link).to_le_bytes().to_vec()),
        (layout::PDPT, (layout::PAGE_DIRECTORY | link).to_le_bytes().to_vec()),
        (layout::PAGE_DIRECTORY, directory),
    ]
}

/// The general registers at the kernel's entry point `entry`.
pub(crate) fn registers(entry: u64) -> kvm_regs {
    kvm_regs {
        rip: entry,
        rsi: layout::ZERO_PAGE,
        rflags: bit::RFLAGS_RESERVED,
        ..Default::default()
    }
}

/// Puts the system registers into 64-bit mode; all that is not named keeps its reset value.
pub(crate) fn enter_64_bit_mode(sregs: &mut kvm_sregs) {
    sregs.cs = code_segment();
    let data = data_segment();
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.ss = data;
    sregs.tr = task_segment();
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = 5 * 8 - 1;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = bit::CR0_PE | bit::CR0_ET | bit::CR0_PG;
    sregs.cr3 = layout::PML4;
    sregs.cr4 = bit::CR4_PAE;
    sregs.efer = bit::EFER_LME | bit::EFER_LMA;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_those_of_linux() {
        // Linux's own boot GDT has 0x00af9b000000ffff and 0x00cf93000000ffff.
        assert_eq!(descriptor(&code_segment()), 0x00af_9b00_0000_ffff);
        assert_eq!(descriptor(&data_segment()), 0x00cf_9300_0000_ffff);
        assert_eq!(gdt().len(), 40);
    }

    #[test]
    fn page_tables_map_the_first_gib_onto_itself() {
        let [(_, top), (_, middle), (_, directory)] = page_tables();
        assert_eq!(top, 0xa003_u64.to_le_bytes());
        assert_eq!(middle, 0xb003_u64.to_le_bytes());
        assert_eq!(directory.len(), 4096);
        assert_eq!(directory[4088..], (0x3fe0_0083_u64).to_le_bytes());
    }
}
