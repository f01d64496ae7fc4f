//! The host's side of a disk: a file or block device of fixed size.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};

use rustix::fs::{FallocateFlags, fallocate, ioctl_blksszget};
use rustix::io::Errno;
use vm_memory::VolatileSlice;

use super::request::SECTOR;

/// Bytes of zeros written at once where the host can't zero a range by itself.
const ZEROS: usize = 16 << 10;

/// An open disk.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    sectors: u64,
    block_size: u32,
    read_only: bool,
}

impl Disk {
    /// A disk as large as `file` is now, rounded down to whole sectors.
    pub(super) fn new(mut file: File, read_only: bool) -> io::Result<Self> {
        let bytes = file.seek(SeekFrom::End(0))?;
        let block_device = file.metadata()?.file_type().is_block_device();
        let block_size = if block_device { ioctl_blksszget(&file)? } else { 512 };
        Ok(Self { file, sectors: bytes / SECTOR, block_size, read_only })
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn block_size(&self) -> u32 {
        self.block_size
    }

    pub(super) fn read_only(&self) -> bool {
        self.read_only
    }

    /// The byte position of `len` bytes at `sector`, if they are whole sectors on the disk.
    pub(super) fn locate(&self, sector: u64, len: u64) -> Option<u64> {
        let end = sector.checked_add(len / SECTOR)?;
        (len.is_multiple_of(SECTOR) && end <= self.sectors).then(|| sector * SECTOR)
    }

    /// Fills guest memory with the bytes at `position`.
    pub(super) fn read(&mut self, slices: &[VolatileSlice<'_>], position: u64) -> io::Result<()> {
        transfer(slices, position, |slices, at| guest_io::read_at(&self.file, slices, at))
    }

    /// Writes guest memory to the bytes at `position`.
    pub(super) fn write(&mut self, slices: &[VolatileSlice<'_>], position: u64) -> io::Result<()> {
        transfer(slices, position, |slices, at| guest_io::write_at(&self.file, slices, at))
    }

    /// Makes everything written durable.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Forgets bytes. The content is undefined afterwards, so that a host which can't forget
    /// has nothing to do.
    pub(super) fn discard(&self, position: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, position, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Zeroes bytes; with `unmap` the space may be given up as well.
    pub(super) fn write_zeroes(&self, position: u64, len: u64, unmap: bool) -> io::Result<()> {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        let ways = if unmap { [punch, zero] } else { [zero, punch] };
        for flags in ways {
            match fallocate(&self.file, flags, position, len) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                result => return Ok(result?),
            }
        }
        let zeros = vec![0; ZEROS];
        let mut done = 0;
        while done < len {
            let part = usize::try_from(len - done).unwrap_or(ZEROS).min(ZEROS);
            self.file.write_all_at(&zeros[..part], position + done)?;
            done += part as u64;
        }
        Ok(())
    }
}

/// Repeats a vectored transfer until all slices are done: the data goes between the page cache
/// and the guest without another copy.
fn transfer(
    slices: &[VolatileSlice<'_>],
    mut position: u64,
    mut step: impl FnMut(&[VolatileSlice<'_>], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut left: Vec<_> = slices.to_vec();
    let mut first = 0;
    while first < left.len() {
        let mut count = match step(&left[first..], position) {
            // The file has become shorter than the disk.
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        position += count as u64;
        while first < left.len() && count >= left[first].len() {
            count -= left[first].len();
            first += 1;
        }
        if count > 0 {
            left[first] = left[first].offset(count).map_err(io::Error::other)?;
        }
    }
    Ok(())
}
