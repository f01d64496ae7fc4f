use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};
use vm_memory::{Bytes, GuestMemory, GuestMemoryRegion};

use super::*;

const MIB: u64 = 1 << 20;

/// A memory file of `mib` MiB with data at some offsets.
fn saved(mib: u64, data: &[(u64, &[u8])]) -> File {
    let file = File::from(memfd_create("saved", MemfdFlags::ALLOW_SEALING).unwrap());
    file.set_len(mib * MIB).unwrap();
    for (at, bytes) in data {
        file.write_all_at(bytes, *at).unwrap();
    }
    file
}

fn sealed(file: &File) -> OwnedFd {
    fcntl_add_seals(file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW).unwrap();
    file.try_clone().unwrap().into()
}

fn size(mib: u64) -> MemoryMib {
    MemoryMib::try_from(mib).unwrap()
}

fn read(memory: &GuestMemoryMmap, at: u64) -> [u8; 4] {
    memory.read_obj(GuestAddress(at)).unwrap()
}

/// Blocks of the file that are there, in KiB.
fn held(file: &File) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) / 2
}

#[test]
fn clones_read_the_file_and_write_for_themselves() {
    let file = saved(64, &[(0, b"zero"), (10 * MIB, b"tens"), (64 * MIB - 4, b"last")]);
    let (one, one_is) = map(sealed(&file), size(64)).unwrap();
    let (two, two_is) = map(sealed(&file), size(64)).unwrap();
    for memory in [&one, &two] {
        assert_eq!([read(memory, 0), read(memory, 10 * MIB)], [*b"zero", *b"tens"]);
        assert_eq!([read(memory, 64 * MIB - 4), read(memory, 30 * MIB)], [*b"last", [0; 4]]);
    }
    one.write_slice(b"mine", GuestAddress(10 * MIB)).unwrap();
    one.write_slice(b"hole", GuestAddress(30 * MIB)).unwrap();
    assert_eq!([read(&one, 10 * MIB), read(&one, 30 * MIB)], [*b"mine", *b"hole"]);
    assert_eq!([read(&two, 10 * MIB), read(&two, 30 * MIB)], [*b"tens", [0; 4]]);
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 10 * MIB).unwrap();
    assert_eq!(&bytes, b"tens");
    drop((one, two));
    drop((one_is, two_is));
}

#[test]
fn holes_stay_holes_whatever_is_done_to_them() {
    let file = saved(64, &[(8 * MIB, b"data")]);
    let before = held(&file);
    let (memory, mappings) = map(sealed(&file), size(64)).unwrap();
    // All but the unit that has data.
    for unit in (0..32).filter(|unit| *unit != 4) {
        assert_eq!(read(&memory, unit * UNIT), [0; 4]);
        memory.write_slice(b"full", GuestAddress(unit * UNIT + 4096)).unwrap();
    }
    assert_eq!(held(&file), before);
    drop(memory);
    drop(mappings);
}

#[test]
fn addresses_are_congruent_so_that_huge_pages_fit() {
    let file = saved(64, &[(3 * MIB, b"data")]);
    let (memory, mappings) = map(sealed(&file), size(64)).unwrap();
    let region = memory.iter().next().unwrap();
    assert_eq!(region.as_ptr().addr() as u64 % UNIT, 0);
    assert_eq!((region.start_addr(), region.len()), (GuestAddress(0), 64 * MIB));
    let line = |address: usize| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.starts_with(&format!("{address:x}-")));
        line.unwrap_or_else(|| panic!("nothing begins at {address:x} in {maps}")).to_owned()
    };
    let data = line(region.as_ptr().addr() + as_usize(UNIT));
    assert!(data.contains("rw-p 00200000") && data.contains("memfd:saved"), "{data}");
    let hole = line(region.as_ptr().addr() + as_usize(2 * UNIT));
    assert!(hole.contains("rw-p 00000000") && !hole.contains("memfd"), "{hole}");
    drop(memory);
    drop(mappings);
}

#[test]
fn data_is_found_in_whole_units_within_the_part() {
    let file = saved(65, &[(0, b"a"), (UNIT - 1, b"b"), (3 * UNIT, b"c"), (65 * MIB - 1, b"d")]);
    let units = |part| data_units(file.as_fd(), part).unwrap();
    assert_eq!(units(0..65 * MIB), [0..UNIT, 3 * UNIT..4 * UNIT, 64 * MIB..65 * MIB]);
    assert_eq!(units(3 * UNIT..8 * UNIT), std::slice::from_ref(&(3 * UNIT..4 * UNIT)));
    assert_eq!(units(4 * UNIT..8 * UNIT), []);
    assert_eq!(units(0..2 * UNIT), std::slice::from_ref(&(0..UNIT)));
}

#[test]
fn adjacent_units_are_one_mapping() {
    let file = saved(64, &[(0, b"a"), (UNIT, b"b"), (2 * UNIT, b"c")]);
    assert_eq!(
        data_units(file.as_fd(), 0..64 * MIB).unwrap(),
        std::slice::from_ref(&(0..3 * UNIT))
    );
}

#[test]
fn a_file_that_could_be_written_is_refused() {
    let file = saved(64, &[]);
    let error = map(file.try_clone().unwrap().into(), size(64)).map(drop).unwrap_err();
    assert!(error.to_string().contains("F_SEAL_WRITE"), "{error}");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let reader = File::open(path).unwrap();
    assert!(map(reader.into(), size(64)).is_ok());
    assert!(map(sealed(&file), size(64)).is_ok());
}

#[test]
fn a_file_of_another_size_is_refused() {
    let error = map(sealed(&saved(63, &[])), size(64)).map(drop).unwrap_err();
    assert!(matches!(error, MemoryError::Size { .. }), "{error}");
}

#[test]
fn nothing_stays_mapped_after_the_mappings() {
    let file = saved(64, &[(0, b"a")]);
    let (memory, mappings) = map(sealed(&file), size(64)).unwrap();
    let start = memory.iter().next().unwrap().as_ptr().addr();
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        maps.lines().any(|line| line.starts_with(&format!("{start:x}-")) && line.contains("memfd:"))
    };
    assert!(mapped());
    drop(memory);
    drop(mappings);
    assert!(!mapped());
}
