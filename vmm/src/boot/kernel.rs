//! Puts an uncompressed ELF kernel into a guest's memory (ELF specification, chapters
//! "ELF header" and "Program header").
//!
//! It goes into huge pages, as the guest uses all of it at once. Mapping the file over the guest's
//! memory, copied on write, was slower: Linux patches nearly every page of its own code.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

use super::BootError;
use crate::arch::x86_64::layout;
use crate::memory::huge;

/// Size of an ELF header.
const HEADER: usize = 64;

/// Size of a program header.
const PROGRAM_HEADER: usize = 56;

/// Most program headers that are looked at; Linux has five. Keeps a hostile file from choosing
/// how much is allocated.
const MAX_PROGRAM_HEADERS: u16 = 64;

/// One segment to load.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// Position in the file.
    offset: u64,
    /// Address in the guest.
    address: u64,
    /// Bytes in the file.
    file_size: u64,
    /// Bytes in the guest's memory; what the file does not have is zero.
    memory_size: u64,
}

/// Loads the kernel and returns its entry point.
///
/// # Errors
/// [`BootError`] with what is wrong with the file.
pub(super) fn load(memory: &GuestMemoryMmap, kernel: OwnedFd) -> Result<u64, BootError> {
    let mut file = File::from(kernel);
    let length = file.metadata().map_err(BootError::Read)?.len();
    let header = read_header(&file)?;
    check_header(&header)?;
    let segments = segments(&file, &header)?;
    let entry = u64_at(&header, 24);
    let (mut start, mut end) = (u64::MAX, 0);
    for segment in &segments {
        segment.check(memory, length)?;
        start = start.min(segment.address);
        end = end.max(segment.address + segment.memory_size);
    }
    let loaded =
        |segment: &Segment| (segment.address..segment.address + segment.file_size).contains(&entry);
    if !segments.iter().any(loaded) {
        return Err(BootError::Entry { entry, end });
    }
    huge::ask_for(memory, layout::HIGH_MEMORY..end);
    for segment in &segments {
        segment.place(memory, &mut file)?;
    }
    Ok(entry)
}

impl Segment {
    /// Checks that the file and the guest's memory have what the segment names.
    fn check(&self, memory: &GuestMemoryMmap, length: u64) -> Result<(), BootError> {
        let file_end = self.offset.checked_add(self.file_size);
        if self.file_size > self.memory_size || file_end.is_none_or(|end| end > length) {
            return Err(BootError::Truncated { length, needed: file_end.unwrap_or(u64::MAX) });
        }
        let size = usize::try_from(self.memory_size).unwrap_or(usize::MAX);
        let fits = memory.check_range(GuestAddress(self.address), size);
        if self.address < layout::HIGH_MEMORY || !fits {
            return Err(BootError::Segment { address: self.address, size: self.memory_size });
        }
        Ok(())
    }

    /// Copies the segment's bytes; the rest of the guest's memory is zero already.
    fn place(&self, memory: &GuestMemoryMmap, kernel: &mut File) -> Result<(), BootError> {
        kernel.seek(SeekFrom::Start(self.offset)).map_err(BootError::Read)?;
        let size = usize::try_from(self.file_size).unwrap_or(usize::MAX);
        memory
            .read_exact_volatile_from(GuestAddress(self.address), kernel, size)
            .map_err(BootError::Write)
    }
}

fn read_header(file: &File) -> Result<[u8; HEADER], BootError> {
    let mut header = [0; HEADER];
    let mut length = 0;
    while length < HEADER {
        match file.read_at(&mut header[length..], length as u64).map_err(BootError::Read)? {
            0 => return Err(BootError::Short(length)),
            more => length += more,
        }
    }
    Ok(header)
}

/// Checks the ELF header's own words about itself.
fn check_header(header: &[u8; HEADER]) -> Result<(), BootError> {
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    const EXECUTABLE: u16 = 2;
    const X86_64: u16 = 62;
    if &header[..4] != b"\x7fELF" {
        let compressed = &header[..2] == b"MZ" || header[..2] == [0x1f, 0x8b];
        return Err(BootError::NotElf(if compressed { ", not a bzImage" } else { "" }));
    }
    let (class, endian) = (header[4], header[5]);
    let (kind, machine) = (u16_at(header, 16), u16_at(header, 18));
    if (class, endian, kind, machine) != (CLASS_64, LITTLE_ENDIAN, EXECUTABLE, X86_64) {
        let found = format!("class {class}, byte order {endian}, type {kind}, machine {machine}");
        return Err(BootError::Architecture(found));
    }
    Ok(())
}

/// The segments that are to be loaded.
fn segments(file: &File, header: &[u8; HEADER]) -> Result<Vec<Segment>, BootError> {
    const PT_LOAD: u32 = 1;
    let (start, size, count) = (u64_at(header, 32), u16_at(header, 54), u16_at(header, 56));
    if usize::from(size) != PROGRAM_HEADER || count > MAX_PROGRAM_HEADERS {
        let found = format!("{count} program headers of {size} bytes");
        return Err(BootError::Architecture(found));
    }
    let mut table = vec![0; PROGRAM_HEADER * usize::from(count)];
    file.read_exact_at(&mut table, start).map_err(BootError::Read)?;
    let headers = table.chunks_exact(PROGRAM_HEADER);
    let loadable = headers.filter(|header| u32_at(header, 0) == PT_LOAD);
    Ok(loadable
        .map(|header| Segment {
            offset: u64_at(header, 8),
            address: u64_at(header, 24),
            file_size: u64_at(header, 32),
            memory_size: u64_at(header, 40),
        })
        .collect())
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}
