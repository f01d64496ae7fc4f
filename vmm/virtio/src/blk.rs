//! The disk (§5.2): a file or block device of the host.
//!
//! Requests are served one after another, straight between the host's page cache and the
//! guest's memory. Without the flush feature a driver expects every write to be durable, so
//! then each one is made so.

mod disk;
mod request;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;

use vm_memory::{Bytes, GuestMemoryMmap};

use crate::device::{Description, DeviceError};
use crate::mmio::VIRTIO_F_EVENT_IDX;
use crate::queue::{Chain, ChainError, Descriptors};
use crate::worker::{Active, Backend, Coalescing, Spawner, ThreadKind, Worker, WorkerError};
use disk::Disk;
use request::{Config, Header, ID_BYTES, Kind, RANGE, RANGE_UNMAP, Range};

/// The thread: positioned reads and writes, sync and fallocate on one descriptor.
pub const THREAD: ThreadKind =
    ThreadKind { name: "vio-blk", stack: 128 << 10, acts_for_users: false };

/// Size of the only queue.
const QUEUE_SIZE: u16 = 256;

/// Most bytes of data in a request. The attack: one request that reads gigabytes into the same
/// few pages keeps the thread from being stopped for seconds. Linux sends 1280 KiB at most by
/// default.
const MAX_DATA: usize = 64 << 20;

/// Most ranges in a discard or write-zeroes request, for the same reason.
const MAX_RANGES: u32 = 16;

/// Most sectors in such a range, and in all ranges of a write-zeroes request: 1 GiB. Hosts that
/// write real zeros need a second for it.
const MAX_RANGE: u32 = 1 << 21;

/// Largest logical block of a disk in bytes. Linux's driver takes none that is larger than a
/// page, and the guest would then see the disk fail.
const MAX_BLOCK: u32 = 4096;

/// A disk over `file`, a regular file or block device, which must be open for writing
/// unless `read_only`. Its size is that of `file` now. The first 20 bytes of `serial` are
/// what the driver gets as the disk's name.
///
/// # Errors
/// [`DeviceError::Host`] if the size can't be found or the thread not be made.
pub fn device(
    spawner: &Spawner,
    file: File,
    read_only: bool,
    serial: &str,
) -> Result<Worker, DeviceError> {
    let disk = Disk::new(file, read_only).map_err(|source| DeviceError::Host {
        device: THREAD.name,
        action: "find size of disk",
        source,
    })?;
    check_block_size(disk.block_size())?;
    let config = Config {
        capacity: disk.sectors(),
        // Header and status need a descriptor each.
        seg_max: u32::from(QUEUE_SIZE) - 2,
        blk_size: disk.block_size(),
        max_range: MAX_RANGE,
        max_ranges: MAX_RANGES,
    };
    let access = if read_only {
        request::F_RO
    } else {
        request::F_FLUSH | request::F_DISCARD | request::F_WRITE_ZEROES
    };
    let description = Description {
        device_id: request::DEVICE_ID,
        features: request::F_SEG_MAX | request::F_BLK_SIZE | access | VIRTIO_F_EVENT_IDX,
        queue_sizes: vec![QUEUE_SIZE],
        config: config.bytes(),
        unsavable: (!read_only).then_some("what is on a writable disk can't be saved"),
    };
    let mut id = [0; ID_BYTES];
    for (to, from) in id.iter_mut().zip(serial.bytes()) {
        *to = from;
    }
    let (server, coalescing) = (Server { disk, id }, Coalescing::default());
    let backend = BlockBackend { server, coalescing };
    Worker::spawn(spawner, THREAD, description, backend)
}

fn check_block_size(size: u32) -> Result<(), DeviceError> {
    if size <= MAX_BLOCK {
        return Ok(());
    }
    let source = io::Error::other(format!("{size} bytes, but {MAX_BLOCK} are the most"));
    let (device, action) = (THREAD.name, "use the disk's logical blocks");
    Err(DeviceError::Host { device, action, source })
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("request past the disk's end, of part of a sector, or too large")]
    Range,
    #[error("write to a read-only disk")]
    ReadOnly,
    #[error("unknown request or flag {0:#x}")]
    Unknown(u32),
    #[error("host: {0}")]
    Host(#[from] io::Error),
}

impl RequestError {
    fn status(&self) -> u8 {
        match self {
            Self::Unknown(_) => request::S_UNSUPP,
            _ => request::S_IOERR,
        }
    }
}

struct BlockBackend {
    server: Server,
    coalescing: Coalescing,
}

impl Backend for BlockBackend {
    fn kicked(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError> {
        let durable = active.features & request::F_FLUSH == 0;
        let Self { server, coalescing } = self;
        let quick = |memory: &_, descriptors: Descriptors<'_>| match kind(memory, descriptors) {
            Some(Kind::In) => true,
            Some(Kind::Out) => !durable,
            // A flush may take seconds.
            _ => false,
        };
        active.drain_coalescing(queue, coalescing, quick, |memory, chain| {
            server.serve(memory, chain, durable)
        })
    }

    fn stop(&mut self) {
        self.coalescing = Coalescing::default();
    }
}

/// What a request asks for, if its header is in one piece.
fn kind(memory: &GuestMemoryMmap, mut descriptors: Descriptors<'_>) -> Option<Kind> {
    let mut header = [0; request::HEADER];
    let first = descriptors.next()?;
    memory.read_slice(&mut header, first.addr()).ok()?;
    Some(Header::parse(header).kind)
}

/// What carries out requests.
struct Server {
    disk: Disk,
    id: [u8; ID_BYTES],
}

impl Server {
    /// Serves one request and says how many bytes of the chain are written: data, then status.
    fn serve(&mut self, memory: &GuestMemoryMmap, chain: &Chain, durable: bool) -> usize {
        // The status is the last writable byte (§5.2.6); without one there is no answer.
        let Some(status_at) = chain.writable.len().checked_sub(1) else {
            guest_warn!("disk request without room for its status");
            return 0;
        };
        let (status, written) = match self.carry_out(memory, chain, status_at, durable) {
            Ok(written) => (request::S_OK, written),
            Err(error) => {
                guest_warn!("disk request failed: {error}");
                (error.status(), 0)
            }
        };
        match chain.writable.write_at(memory, status_at, &[status]) {
            // The used length counts from the first writable byte, gaps included (§2.7.8.2);
            // the status is at the end.
            Ok(()) if written == status_at => written + 1,
            Ok(()) | Err(_) => written,
        }
    }

    /// Does what a request says and returns how many bytes of data were written to the guest.
    fn carry_out(
        &mut self,
        memory: &GuestMemoryMmap,
        chain: &Chain,
        room: usize,
        durable: bool,
    ) -> Result<usize, RequestError> {
        let mut header = [0; request::HEADER];
        chain.readable.read_at(memory, 0, &mut header)?;
        let header = Header::parse(header);
        let payload = chain.readable.len() - request::HEADER;
        let changes = matches!(header.kind, Kind::Out | Kind::Discard | Kind::WriteZeroes);
        if changes && self.disk.read_only() {
            return Err(RequestError::ReadOnly);
        }
        match header.kind {
            Kind::In => {
                let position = self.locate(header.sector, room)?;
                self.disk.read(&chain.writable.slices(memory, 0, room)?, position)?;
                return Ok(room);
            }
            Kind::Out => {
                let position = self.locate(header.sector, payload)?;
                let data = chain.readable.slices(memory, request::HEADER, payload)?;
                self.disk.write(&data, position)?;
            }
            Kind::Flush => self.disk.flush()?,
            Kind::GetId => {
                let id = &self.id[..room.min(ID_BYTES)];
                chain.writable.write_at(memory, 0, id)?;
                return Ok(id.len());
            }
            Kind::Discard | Kind::WriteZeroes => {
                let ranges = self.ranges(memory, chain, payload)?;
                let sectors = ranges.iter().map(|range| u64::from(range.sectors)).sum::<u64>();
                if header.kind == Kind::WriteZeroes && sectors > MAX_RANGE.into() {
                    return Err(RequestError::Range);
                }
                for range in ranges {
                    self.erase(header.kind, range)?;
                }
            }
            Kind::Unknown(kind) => return Err(RequestError::Unknown(kind)),
        }
        if changes && durable {
            self.disk.flush()?;
        }
        Ok(0)
    }

    fn locate(&self, sector: u64, len: usize) -> Result<u64, RequestError> {
        let position = self.disk.locate(sector, len as u64);
        position.filter(|_| len <= MAX_DATA).ok_or(RequestError::Range)
    }

    /// The ranges of a discard or write-zeroes request, at most [`MAX_RANGES`].
    fn ranges(
        &self,
        memory: &GuestMemoryMmap,
        chain: &Chain,
        payload: usize,
    ) -> Result<Vec<Range>, RequestError> {
        let count = payload / RANGE;
        if !payload.is_multiple_of(RANGE) || count == 0 || count as u64 > MAX_RANGES.into() {
            return Err(RequestError::Range);
        }
        let parse = |number| {
            let mut bytes = [0; RANGE];
            chain.readable.read_at(memory, request::HEADER + number * RANGE, &mut bytes)?;
            Ok(Range::parse(bytes))
        };
        (0..count).map(parse).collect()
    }

    fn erase(&self, kind: Kind, range: Range) -> Result<(), RequestError> {
        let len = u64::from(range.sectors) * request::SECTOR;
        let position = self.disk.locate(range.sector, len).ok_or(RequestError::Range)?;
        if range.sectors > MAX_RANGE {
            return Err(RequestError::Range);
        }
        // Unknown flags, and any flag on a discard, must be refused (§5.2.6.2).
        let unmap = range.flags == RANGE_UNMAP && kind == Kind::WriteZeroes;
        if range.flags != 0 && !unmap {
            return Err(RequestError::Unknown(range.flags));
        }
        if range.sectors == 0 {
            return Ok(());
        }
        match kind {
            Kind::Discard => self.disk.discard(position, len)?,
            _ => self.disk.write_zeroes(position, len, unmap)?,
        }
        Ok(())
    }
}
