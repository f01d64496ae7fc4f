//! Wire layout of disk requests (§5.2.6) and of the configuration space (§5.2.4).

/// Bytes of a sector, the unit of all positions and sizes on the wire, whatever the disk's own
/// block size is.
pub(super) const SECTOR: u64 = 512;

/// Device type (§5.2.1).
pub(super) const DEVICE_ID: u32 = 2;

/// Feature: the configuration says how many buffers a request may have.
pub(super) const F_SEG_MAX: u64 = 1 << 2;
/// Feature: the disk is read-only.
pub(super) const F_RO: u64 = 1 << 5;
/// Feature: the configuration has the block size.
pub(super) const F_BLK_SIZE: u64 = 1 << 6;
/// Feature: writes may be cached until a flush.
pub(super) const F_FLUSH: u64 = 1 << 9;
/// Feature: blocks can be discarded.
pub(super) const F_DISCARD: u64 = 1 << 13;
/// Feature: blocks can be zeroed without sending zeros.
pub(super) const F_WRITE_ZEROES: u64 = 1 << 14;

/// Result: done.
pub(super) const S_OK: u8 = 0;
/// Result: the device or the driver made an error.
pub(super) const S_IOERR: u8 = 1;
/// Result: the device does not know the request.
pub(super) const S_UNSUPP: u8 = 2;

/// Bytes of the header: type, reserved word, first sector.
pub(super) const HEADER: usize = 16;

/// Bytes of the answer to [`Kind::GetId`].
pub(super) const ID_BYTES: usize = 20;

/// Bytes of a range in a discard or write-zeroes request.
pub(super) const RANGE: usize = 16;

/// Flag of a range: the disk may give the blocks up instead of writing zeros.
pub(super) const RANGE_UNMAP: u32 = 1;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Read from the disk.
    In,
    /// Write to the disk.
    Out,
    /// Make all completed writes durable.
    Flush,
    /// Get the disk's serial.
    GetId,
    /// Forget the content of ranges.
    Discard,
    /// Zero ranges.
    WriteZeroes,
    /// Anything else.
    Unknown(u32),
}

/// A request's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) sector: u64,
}

impl Header {
    pub(super) fn parse(bytes: [u8; HEADER]) -> Self {
        let kind = match word(&bytes, 0) {
            0 => Kind::In,
            1 => Kind::Out,
            4 => Kind::Flush,
            8 => Kind::GetId,
            11 => Kind::Discard,
            13 => Kind::WriteZeroes,
            other => Kind::Unknown(other),
        };
        Self { kind, sector: long(&bytes, 8) }
    }
}

/// A range of a discard or write-zeroes request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) sector: u64,
    pub(super) sectors: u32,
    pub(super) flags: u32,
}

impl Range {
    pub(super) fn parse(bytes: [u8; RANGE]) -> Self {
        Self { sector: long(&bytes, 0), sectors: word(&bytes, 8), flags: word(&bytes, 12) }
    }
}

/// What the configuration space tells the driver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Config {
    /// Size of the disk in sectors.
    pub(super) capacity: u64,
    /// Most buffers of data in a request.
    pub(super) seg_max: u32,
    /// Block size in bytes.
    pub(super) blk_size: u32,
    /// Most sectors in a range of a discard or write-zeroes request.
    pub(super) max_range: u32,
    /// Most ranges in a discard request.
    pub(super) max_ranges: u32,
}

impl Config {
    /// The bytes of the configuration space, up to the write-zeroes fields.
    pub(super) fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; 60];
        let mut put = |offset: usize, value: &[u8]| {
            bytes[offset..offset + value.len()].copy_from_slice(value);
        };
        put(0, &self.capacity.to_le_bytes());
        put(12, &self.seg_max.to_le_bytes());
        put(20, &self.blk_size.to_le_bytes());
        put(36, &self.max_range.to_le_bytes());
        put(40, &self.max_ranges.to_le_bytes());
        let alignment = self.blk_size / 512;
        put(44, &alignment.to_le_bytes());
        put(48, &self.max_range.to_le_bytes());
        // One range to be zeroed may be as long as all of a request. Linux has never more.
        put(52, &1_u32.to_le_bytes());
        put(56, &[1]);
        bytes
    }
}

fn word(bytes: &[u8; 16], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

fn long(bytes: &[u8; 16], offset: usize) -> u64 {
    let mut long = [0; 8];
    long.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(long)
}
