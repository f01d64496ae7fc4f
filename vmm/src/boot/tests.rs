use std::io::Write;

use vm_memory::GuestAddress;
use vmm_api::{FdSlot, RawMachineConfig};

use super::*;

fn config(extra: &str, serial: bool) -> MachineConfig {
    RawMachineConfig {
        vcpus: 2,
        memory_mib: 64,
        extra_cmdline: extra.to_owned(),
        early_serial: serial,
    }
    .try_into()
    .unwrap()
}

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap()
}

fn kernel(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.into()
}

/// A kernel of one segment with `filesz` bytes in the file, to be loaded at 16 MiB.
fn elf(entry: u64, filesz: u64) -> Vec<u8> {
    let mut bytes = vec![0_u8; 120];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16..18].copy_from_slice(&2_u16.to_le_bytes());
    bytes[18..20].copy_from_slice(&62_u16.to_le_bytes());
    bytes[24..32].copy_from_slice(&entry.to_le_bytes());
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes()); // program headers
    bytes[52..54].copy_from_slice(&64_u16.to_le_bytes()); // header size
    bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
    bytes[64..68].copy_from_slice(&1_u32.to_le_bytes()); // PT_LOAD
    bytes[72..80].copy_from_slice(&120_u64.to_le_bytes()); // offset
    bytes[88..96].copy_from_slice(&(16_u64 << 20).to_le_bytes()); // physical address
    bytes[96..104].copy_from_slice(&filesz.to_le_bytes());
    bytes[104..112].copy_from_slice(&filesz.to_le_bytes());
    bytes
}

fn load_bytes(bytes: &[u8]) -> Result<u64, BootError> {
    load(&memory(), kernel(bytes), &config("", false), &[])
}

#[test]
fn kernel_is_loaded_where_it_asks_to_be() {
    let mut bytes = elf(16 << 20, 8);
    bytes.extend(b"kernel!!");
    let memory = memory();
    let entry = load(&memory, kernel(&bytes), &config("", false), &[]).unwrap();
    assert_eq!(entry, 16 << 20);
    let mut found = [0; 8];
    memory.read_slice(&mut found, GuestAddress(16 << 20)).unwrap();
    assert_eq!(&found, b"kernel!!");
}

#[test]
fn files_that_are_no_kernel_are_told_apart() {
    assert!(matches!(load_bytes(b"\x7fELF").unwrap_err(), BootError::Short(4)));
    let script = load_bytes(&[b'#'; 100]).unwrap_err();
    assert!(script.to_string().contains("not an ELF file"), "{script}");
    let mut image = vec![0; 512];
    image[..2].copy_from_slice(b"MZ");
    assert!(load_bytes(&image).unwrap_err().to_string().contains("bzImage"));
    let mut arm = elf(16 << 20, 0);
    arm[18] = 183;
    assert!(load_bytes(&arm).unwrap_err().to_string().contains("machine 183"));
}

#[test]
fn truncated_kernel_is_refused() {
    let mut bytes = elf(16 << 20, 4096);
    bytes.extend([0; 100]);
    assert!(matches!(load_bytes(&bytes).unwrap_err(), BootError::Truncated { .. }));
}

#[test]
fn kernel_larger_than_the_memory_is_refused() {
    let mut bytes = elf(16 << 20, 8);
    bytes[88..96].copy_from_slice(&(64_u64 << 20).to_le_bytes());
    bytes.extend([0; 8]);
    assert!(matches!(load_bytes(&bytes).unwrap_err(), BootError::Segment { .. }));
}

#[test]
fn entry_outside_of_the_kernel_is_refused() {
    let mut bytes = elf(48 << 20, 8);
    bytes.extend([0; 8]);
    assert!(matches!(load_bytes(&bytes).unwrap_err(), BootError::Entry { .. }));
}

#[test]
fn command_line_follows_the_devices() {
    let block = vmm_api::BlockConfig::new(FdSlot(2), true, "").unwrap();
    let devices = [DeviceConfig::Block(block), DeviceConfig::Console { output: FdSlot(3) }];
    let line = cmdline(&config("debug", false), &devices);
    assert!(line.contains("console=hvc0 loglevel=5 root=/dev/vda ro"), "{line}");
    assert!(line.ends_with(" debug"), "{line}");
    assert!(!line.contains("ttyS0"), "{line}");
    assert!(line.contains(" rcupdate.rcu_expedited=1 percpu_alloc=page "), "{line}");
    let line = cmdline(&config("", true), &[]);
    assert!(line.contains("console=ttyS0"), "{line}");
    assert!(!line.contains("root="), "{line}");
}

#[test]
fn longest_command_line_fits() {
    let line = cmdline(&config(&"x".repeat(1024), true), &[]);
    assert!(line.len() < layout::CMDLINE_MAX - 512, "{}", line.len());
}
