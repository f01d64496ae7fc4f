//! The machine's description for its kernel: hardware-reduced ACPI 6.5.
//!
//! RSDP → XSDT → FADT (reset, sleep; → DSDT) and MADT (vCPUs, IOAPIC). The DSDT announces the
//! first windows, the panic device, the generation ID and, for debugging, the serial port. An SSDT announces the other
//! windows. It lies in a table that Linux does not read, but shows to the agent. The agent loads the
//! SSDT when a machine comes to need it. Everything sits in [`layout::ACPI`], the RSDP at its start.

use acpi_tables::aml::{self, Interrupt, Memory32Fixed, Name, ResourceTemplate};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use std::ops::Range;

use acpi_tables::{Aml, aml::IO};
use virtio::mmio::WINDOW_SIZE;
use vmm_api::{WINDOWS, Window};

use super::layout;

const OEM: [u8; 6] = *b"CUDDY ";
const OEM_TABLE: [u8; 8] = *b"CUDDYVMM";
const OEM_REVISION: u32 = 1;

/// Windows that are announced at boot: as many as have an interrupt line of their own, and more
/// than nearly every pod has devices. Each costs a third of a million instructions.
const AT_BOOT: u8 = 16;

/// The table that Linux does not read; the agent knows it by this name.
const OTHERS: [u8; 4] = *b"CUDW";

/// Size of a table header (ACPI 6.5 §5.2.6).
const HEADER: u32 = 36;

/// What the generation ID notifies of a change by (ACPI 6.5 §5.6.6: device-specific values).
const CHANGED: u8 = 0x80;

/// IA-PC boot flags (ACPI 6.5 §5.2.9.3): no VGA, no CMOS clock.
const IAPC_NO_VGA: u16 = 1 << 2;
const IAPC_NO_CMOS_RTC: u16 = 1 << 5;

/// The tables outgrew their place.
#[derive(Debug, thiserror::Error)]
#[error("ACPI tables need {0} bytes, more than their place has")]
pub(crate) struct TooLarge(usize);

/// All tables as they go to the start of [`layout::ACPI`], for a machine with `vcpus` vCPUs and,
/// if `serial`, a serial port.
///
/// # Errors
/// [`TooLarge`], which no valid configuration reaches.
pub(crate) fn tables(vcpus: u8, serial: bool) -> Result<Vec<u8>, TooLarge> {
    let mut place = Place { bytes: vec![0; Rsdp::len()] };
    let dsdt = place.add(&dsdt(serial));
    let fadt = place.add(&bytes_of(&fadt(dsdt)));
    let madt = place.add(&bytes_of(&madt(vcpus)));
    let others = place.add(&others());
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    xsdt.add_entry(others);
    let xsdt = place.add(&bytes_of(&xsdt));
    let rsdp = bytes_of(&Rsdp::new(OEM, xsdt));
    place.bytes[..rsdp.len()].copy_from_slice(&rsdp);
    let room = layout::GENERATION - layout::ACPI.start;
    if place.bytes.len() as u64 > room {
        return Err(TooLarge(place.bytes.len()));
    }
    Ok(place.bytes)
}

/// Tables laid out one behind the other.
struct Place {
    bytes: Vec<u8>,
}

impl Place {
    /// Adds a table and tells its guest-physical address, a multiple of 16.
    fn add(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let address = layout::ACPI.start + self.bytes.len() as u64;
        self.bytes.extend_from_slice(table);
        address
    }
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// A register of one byte at an I/O port.
fn port(address: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, address.into())
}

fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton) // no fixed power button
        .flag(Flags::SlpButton) // no fixed sleep button
        .flag(Flags::ResetRegSup)
        .flag(Flags::HwReducedAcpi);
    fadt.iapc_boot_arch = (IAPC_NO_VGA | IAPC_NO_CMOS_RTC).into();
    fadt.reset_reg = port(layout::RESET_PORT);
    fadt.reset_value = layout::RESET_VALUE;
    fadt.sleep_control_reg = port(layout::SLEEP_CONTROL_PORT);
    fadt.sleep_status_reg = port(layout::SLEEP_STATUS_PORT);
    fadt.finalize()
}

/// All vCPUs as present and enabled; the kernel's command line says how many to start.
fn madt(vcpus: u8) -> MADT {
    let mut madt = MADT::new(
        OEM,
        OEM_TABLE,
        OEM_REVISION,
        LocalInterruptController::Address(layout::LOCAL_APIC),
    );
    for id in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IOAPIC, 0));
    madt
}

/// A table of this kind around `content`.
fn table(signature: [u8; 4], content: &[u8]) -> Vec<u8> {
    let mut table = Sdt::new(signature, HEADER, 6, OEM, OEM_TABLE, OEM_REVISION);
    table.append_slice(content);
    table.as_slice().to_vec()
}

/// The table around the SSDT of the windows that are not announced at boot.
fn others() -> Vec<u8> {
    let aml = aml::Scope::raw(aml::Path::new("_SB_"), window_devices(AT_BOOT..WINDOWS));
    table(OTHERS, &table(*b"SSDT", &aml))
}

fn window_devices(windows: Range<u8>) -> Vec<u8> {
    let mut devices = Vec::new();
    for window in windows.filter_map(|index| Window::try_from(index).ok()) {
        window_device(window).to_aml_bytes(&mut devices);
    }
    devices
}

fn dsdt(serial: bool) -> Vec<u8> {
    let mut devices = window_devices(0..AT_BOOT);
    pvpanic_device(&mut devices);
    generation_devices(&mut devices);
    if serial {
        serial_device(&mut devices);
    }
    let mut aml = aml::Scope::raw(aml::Path::new("_SB_"), devices);
    let sleep_type = aml::Package::new(vec![&layout::SLEEP_TYPE_S5]);
    Name::new(aml::Path::new("_S5_"), &sleep_type).to_aml_bytes(&mut aml);
    table(*b"DSDT", &aml)
}

/// One window, as bytes. `LNRO0005` is the name by which Linux knows virtio-mmio.
fn window_device(window: Window) -> impl Aml {
    struct Bytes(Vec<u8>);
    impl Aml for Bytes {
        fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
            sink.vec(&self.0);
        }
    }
    // The hole lies below 4 GiB, so both halves of the address are those of a u32.
    let address = u32::try_from(layout::window_address(window)).unwrap_or(0);
    let size = u32::try_from(WINDOW_SIZE).unwrap_or(0);
    let registers = Memory32Fixed::new(true, address, size);
    // An interrupt is one write to an event descriptor: an edge. Shared, because there are
    // more windows than lines.
    let line = Interrupt::new(true, true, false, true, layout::window_line(window));
    let name = format!("V{:03X}", window.index());
    Bytes(bytes_of(&aml::Device::new(
        aml::Path::new(&name),
        vec![
            &Name::new(aml::Path::new("_HID"), &"LNRO0005"),
            &Name::new(aml::Path::new("_UID"), &window.index()),
            &Name::new(aml::Path::new("_CRS"), &ResourceTemplate::new(vec![&registers, &line])),
        ],
    )))
}

fn pvpanic_device(sink: &mut Vec<u8>) {
    let ports = IO::new(layout::PVPANIC_PORT, layout::PVPANIC_PORT, 1, 1);
    aml::Device::new(
        aml::Path::new("PEVT"),
        vec![
            &Name::new(aml::Path::new("_HID"), &"QEMU0001"),
            &Name::new(aml::Path::new("_CRS"), &ResourceTemplate::new(vec![&ports])),
        ],
    )
    .to_aml_bytes(sink);
}

/// The generation ID (Microsoft's "Virtual Machine Generation ID", 2012) by the name that Linux's
/// driver has, and the device whose interrupt says that there is another ID (Generic Event Device,
/// ACPI 6.5 §5.6.9). It has one interrupt, so its method need not look which.
fn generation_devices(sink: &mut Vec<u8>) {
    let id = aml::Path::new("VGEN");
    // The lower half of the address, then the upper one.
    let address = u32::try_from(layout::GENERATION).unwrap_or(0);
    aml::Device::new(
        id,
        vec![
            &Name::new(aml::Path::new("_HID"), &"VMGENCTR"),
            &Name::new(aml::Path::new("ADDR"), &aml::Package::new(vec![&address, &aml::ZERO])),
        ],
    )
    .to_aml_bytes(sink);
    let line = Interrupt::new(true, true, false, false, layout::GENERATION_LINE);
    let id = aml::Path::new("VGEN");
    let changed = aml::Notify::new(&id, &CHANGED);
    aml::Device::new(
        aml::Path::new("GED_"),
        vec![
            &Name::new(aml::Path::new("_HID"), &"ACPI0013"),
            &Name::new(aml::Path::new("_CRS"), &ResourceTemplate::new(vec![&line])),
            &aml::Method::new(aml::Path::new("_EVT"), 1, true, vec![&changed]),
        ],
    )
    .to_aml_bytes(sink);
}

fn serial_device(sink: &mut Vec<u8>) {
    let ports = IO::new(layout::SERIAL_PORT, layout::SERIAL_PORT, 1, 8);
    let line = Interrupt::new(true, true, false, false, layout::SERIAL_LINE);
    aml::Device::new(
        aml::Path::new("COM1"),
        vec![
            &Name::new(aml::Path::new("_HID"), &aml::EISAName::new("PNP0501")),
            &Name::new(aml::Path::new("_UID"), &aml::ZERO),
            &Name::new(aml::Path::new("_CRS"), &ResourceTemplate::new(vec![&ports, &line])),
        ],
    )
    .to_aml_bytes(sink);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn u32_at(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// The table that a pointer in `bytes` at `at` leads to, checked.
    fn follow(bytes: &[u8], at: usize) -> &[u8] {
        let start = usize::try_from(u64_at(bytes, at) - layout::ACPI.start).unwrap();
        let table = &bytes[start..start + u32_at(bytes, start + 4)];
        assert_eq!(sum(table), 0, "checksum of {:?}", &table[..4]);
        table
    }

    #[test]
    fn tables_are_reachable_from_the_rsdp_with_right_checksums() {
        let bytes = tables(32, true).unwrap();
        assert_eq!(&bytes[..8], b"RSD PTR ");
        assert_eq!(sum(&bytes[..20]), 0);
        assert_eq!(sum(&bytes[..36]), 0);
        let xsdt = follow(&bytes, 24);
        assert_eq!(&xsdt[..4], b"XSDT");
        let xsdt_start = xsdt.as_ptr() as usize - bytes.as_ptr() as usize;
        let fadt = follow(&bytes, xsdt_start + 36);
        assert_eq!(&fadt[..4], b"FACP");
        let madt = follow(&bytes, xsdt_start + 44);
        assert_eq!(&madt[..4], b"APIC");
        assert_eq!(madt.len(), 44 + 32 * 8 + 12);
        let fadt_start = fadt.as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(&follow(&bytes, fadt_start + 140)[..4], b"DSDT");
    }

    #[test]
    fn every_window_is_announced_once() {
        let (dsdt, others) = (dsdt(false), others());
        for index in 0..WINDOWS {
            let name = format!("V{index:03X}");
            let count =
                |table: &[u8]| table.windows(4).filter(|bytes| *bytes == name.as_bytes()).count();
            let expected = if index < AT_BOOT { (1, 0) } else { (0, 1) };
            assert_eq!((count(&dsdt), count(&others)), expected, "{name}");
        }
        assert!(!dsdt.windows(4).any(|bytes| bytes == b"COM1"));
    }

    /// Assembled by hand from ACPI 6.5 §20.2.
    #[test]
    fn generation_id_is_where_linux_looks_and_its_change_is_an_event() {
        let mut devices = Vec::new();
        generation_devices(&mut devices);
        let expected = [
            // Device (VGEN) { Name (_HID, "VMGENCTR"); Name (ADDR, Package { 0x000ff000, 0 }) }
            &b"\x5b\x82\x22VGEN\x08_HID\x0dVMGENCTR\0"[..],
            b"\x08ADDR\x12\x08\x02\x0c\x00\xf0\x0f\x00\x00",
            // Device (GED) { Name (_HID, "ACPI0013"); Name (_CRS, one edge of line 5);
            b"\x5b\x82\x36GED_\x08_HID\x0dACPI0013\0",
            b"\x08_CRS\x11\x0e\x0a\x0b\x89\x06\x00\x03\x01\x05\x00\x00\x00\x79\x00",
            //   Method (_EVT, 1, Serialized) { Notify (VGEN, 0x80) } }
            b"\x14\x0d_EVT\x09\x86VGEN\x0a\x80",
        ]
        .concat();
        assert_eq!(devices, expected, "{devices:02x?}");
        let bytes = tables(32, true).unwrap();
        assert!(bytes.len() as u64 <= layout::GENERATION - layout::ACPI.start);
        const { assert!(layout::GENERATION.is_multiple_of(8)) };
        const { assert!(layout::GENERATION + 16 <= layout::ACPI.end) };
    }

    #[test]
    fn table_of_the_other_windows_holds_a_whole_ssdt() {
        let bytes = tables(1, false).unwrap();
        let xsdt = follow(&bytes, 24);
        let xsdt_start = xsdt.as_ptr() as usize - bytes.as_ptr() as usize;
        let others = follow(&bytes, xsdt_start + 52);
        assert_eq!(&others[..4], b"CUDW");
        let ssdt = &others[36..];
        assert_eq!((&ssdt[..4], u32_at(ssdt, 4), sum(ssdt)), (&b"SSDT"[..], ssdt.len(), 0));
    }
}
