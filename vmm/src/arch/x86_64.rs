//! x86-64: a machine without firmware, PCI or legacy devices, described by hardware-reduced
//! ACPI and entered by the Linux 64-bit boot protocol.

pub(crate) mod acpi;
pub(crate) mod cpuid;
pub(crate) mod entry;
pub(crate) mod kept_msrs;
pub(crate) mod layout;
pub(crate) mod msrs;
pub(crate) mod zero_page;
