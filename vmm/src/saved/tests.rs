use std::os::fd::OwnedFd;

use vmm_api::{FdSlot, RawMachineConfig};

use super::file::{decode, encode, seal};
use super::*;

fn raw() -> RawMachineConfig {
    RawMachineConfig {
        vcpus: 2,
        memory_mib: 256,
        extra_cmdline: "quiet".to_owned(),
        early_serial: false,
    }
}

fn shape() -> MachineConfig {
    raw().try_into().unwrap()
}

fn kernel(name: &str) -> KernelDigest {
    KernelDigest::of(name.as_bytes()).unwrap()
}

fn leaf(function: u32, index: u32, eax: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { function, index, eax, ..Default::default() }
}

fn machine() -> SavedMachine {
    let cpuid = vec![leaf(0, 0, 13), leaf(7, 0, 1), leaf(7, 1, 2)];
    let origin = Origin { shape: shape(), kernel: kernel("ours"), cpuid };
    // A small one: the tests below look at each of its bytes.
    let (vcpu, vm) = (VcpuState::default(), crate::kvm::VmState::blank());
    SavedMachine { origin, vcpu, vm, devices: Vec::new() }
}

fn file(bytes: &[u8]) -> OwnedFd {
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
    file.into()
}

#[test]
fn a_state_is_read_as_it_was_written() {
    let file = tempfile::tempfile().unwrap();
    write(file.try_clone().unwrap().into(), &machine()).unwrap();
    let read = read(file.into()).unwrap();
    assert_eq!(encode(&read).unwrap(), encode(&machine()).unwrap());
    assert_eq!(read.origin.shape, shape());
    assert!(read.check_request(&shape(), kernel("ours"), &[]).is_ok());
}

#[test]
fn every_byte_that_is_damaged_is_noticed() {
    let good = encode(&machine()).unwrap();
    for at in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let error = decode(&bad).map(drop).unwrap_err();
            let expected = match at {
                0..8 => matches!(error, SavedError::NotSaved),
                8..12 => matches!(error, SavedError::Format(_)),
                44..48 => matches!(error, SavedError::Length { .. }),
                _ => matches!(error, SavedError::Damaged),
            };
            assert!(expected, "byte {at}: {error}");
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    let good = encode(&machine()).unwrap();
    for length in 0..good.len() {
        let error = decode(&good[..length]).map(drop).unwrap_err();
        let expected = match length {
            0..8 => matches!(error, SavedError::NotSaved),
            _ => matches!(error, SavedError::Length { found, .. } if found == length as u64),
        };
        assert!(expected, "{length} bytes: {error}");
    }
    let longer = [&good[..], &[0]].concat();
    assert!(matches!(decode(&longer), Err(SavedError::Length { .. })));
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 40).unwrap();
    let error = read(file.into()).map(drop).unwrap_err();
    assert!(matches!(error, SavedError::Length { found, .. } if found == 1 << 40), "{error}");
    assert!(seal(&vec![0; 1 << 20]).is_none());
}

#[test]
fn what_is_no_state_is_refused_by_name() {
    let error = read(file(b"\x7fELF and more")).map(drop).unwrap_err();
    assert!(error.to_string().contains("not the state of a saved machine"), "{error}");
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    assert!(matches!(read(pipe), Err(SavedError::NotSaved)));
}

#[test]
fn content_that_makes_no_sense_is_refused_although_its_digest_is_right() {
    let good = postcard::to_stdvec(&machine()).unwrap();
    assert!(matches!(decode(&seal(&good[1..]).unwrap()), Err(SavedError::Malformed(_))));
    assert!(matches!(decode(&seal(&[]).unwrap()), Err(SavedError::Malformed(_))));
    let longer = seal(&[&good[..], &[0]].concat()).unwrap();
    assert!(matches!(decode(&longer), Err(SavedError::Malformed(_))));
    assert!(decode(&seal(&good).unwrap()).is_ok());
}

#[test]
fn a_state_of_another_build_is_refused_by_name() {
    use sha2::{Digest, Sha256};
    let mut bytes = encode(&machine()).unwrap();
    bytes[12] ^= 1;
    let digest = Sha256::new().chain_update(&bytes[..48]).chain_update(&bytes[80..]).finalize();
    bytes[48..80].copy_from_slice(&digest);
    let error = decode(&bytes).map(drop).unwrap_err();
    assert!(error.to_string().contains("another build of the VMM"), "{error}");
}

#[test]
fn each_part_of_the_shape_is_named() {
    let asked = |change: fn(&mut RawMachineConfig)| {
        let mut asked = raw();
        change(&mut asked);
        let asked = asked.try_into().unwrap();
        let refused = machine().check_request(&asked, kernel("ours"), &[]);
        refused.unwrap_err().to_string()
    };
    assert!(
        asked(|shape| shape.vcpus = 3).contains("greatest number of vCPUs is 2, asked for is 3")
    );
    assert!(
        asked(|shape| shape.memory_mib = 128).contains("memory in MiB is 256, asked for is 128")
    );
    assert!(asked(|shape| shape.extra_cmdline.clear()).contains("command line is \"quiet\""));
    assert!(asked(|shape| shape.early_serial = true).contains("early serial console is false"));
}

#[test]
fn fewer_vcpus_than_were_saved_are_taken() {
    let asked = RawMachineConfig { vcpus: 1, ..raw() }.try_into().unwrap();
    assert!(machine().check_request(&asked, kernel("ours"), &[]).is_ok());
}

#[test]
fn another_kernel_is_named() {
    let error = machine().check_request(&shape(), kernel("theirs"), &[]).unwrap_err().to_string();
    assert!(error.contains(&kernel("ours").to_string()), "{error}");
    assert!(error.contains(&kernel("theirs").to_string()), "{error}");
}

#[test]
fn a_processor_that_differs_is_named_by_its_leaf() {
    let machine = machine();
    let mut host = machine.origin.cpuid.clone();
    assert!(machine.check_cpu(&host).is_ok());
    host[2].eax = 3;
    let error = machine.check_cpu(&host).unwrap_err().to_string();
    assert!(error.contains("leaf 0x7, subleaf 1"), "{error}");
    assert!(machine.check_cpu(&host[..1]).is_err());
    host[2].eax = 2;
    host.push(leaf(0x8000_0000, 0, 0));
    let error = machine.check_cpu(&host).unwrap_err().to_string();
    assert!(error.contains("leaf 0x80000000"), "{error}");
}

#[test]
fn devices_come_in_the_saved_order() {
    let rng = r#"{"device_id":4,"config":[],"status":0,"interrupt_status":0,"driver_features":0,
        "selected":{"device_features":0,"driver_features":0,"queue":0},
        "queues":[],"parked":{"positions":[],"note":0}}"#;
    let state: TransportState = serde_json::from_str(rng).unwrap();
    let mut machine = machine();
    machine.devices = vec![(Window::try_from(0).unwrap(), state)];
    assert!(decode(&encode(&machine).unwrap()).is_ok());
    let mut twice = machine.clone();
    twice.devices.push(twice.devices[0].clone());
    assert!(matches!(decode(&encode(&twice).unwrap()), Err(SavedError::Malformed(_))));
    let check = |devices: &[DeviceConfig]| machine.check_request(&shape(), kernel("ours"), devices);
    let console = || DeviceConfig::Console { output: FdSlot(0) };
    assert!(check(&[DeviceConfig::Rng]).is_ok());
    assert!(check(&[DeviceConfig::Rng, console()]).is_ok());
    let error = check(&[console(), DeviceConfig::Rng]).unwrap_err().to_string();
    assert_eq!(error, "device 0 of the saved machine is rng, of the request console");
    assert!(check(&[]).unwrap_err().to_string().ends_with("of the request none"));
}
