//! The disk, with requests that are right, or almost right, or anything.
//!
//! Checked besides panics:
//! - Bytes of the file behind the disk's end stay as they are.
//! - Nothing of a read-only disk changes.
//! - A read or a write succeeds if, and only if, it is right. A wrong erasure fails.
//! - A read returns what was written before.
//! - All chains come back.

use std::fs::File;
use std::os::unix::fs::FileExt;

use arbitrary::{Arbitrary, Unstructured};
use virtio::blk;
use vm_memory::{Bytes, GuestAddress};

use crate::guest::{Guest, Piece, QueueChoice, spawner};
use crate::{limits, stage};

const SECTOR: u64 = 512;
/// Bytes that the file gets behind the disk's end.
const BEHIND: u64 = 4096;
/// Most bytes of one allocation: the vectors of a chain.
const LARGEST: usize = 1 << 20;
const CANARY: u8 = 0xa5;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Sector {
    Near(u8),
    Any(u64),
}

impl Sector {
    fn number(self) -> u64 {
        match self {
            Self::Near(number) => number.into(),
            Self::Any(number) => number,
        }
    }
}

#[derive(Debug, Arbitrary)]
enum Op {
    Read { sector: Sector, sectors: u8, more: u8 },
    Write { sector: Sector, sectors: u8, more: u8, fill: u8 },
    Erase { discard: bool, ranges: Vec<(Sector, u8, u8)> },
    Plain { kind: u8, room: u8 },
    Chain { pieces: Vec<Piece>, indirect: bool },
    Scribble { address: u32, bytes: Vec<u8> },
    Restart { features: u64, queue: QueueChoice },
}

#[derive(Debug, Arbitrary)]
struct Input {
    read_only: bool,
    sectors: u8,
    tail: u8,
    features: u64,
    queue: QueueChoice,
    ops: Vec<Op>,
}

struct Disk {
    guest: Guest,
    file: File,
    read_only: bool,
    sectors: u64,
    /// What the file should contain, behind the disk's end too.
    model: Vec<u8>,
}

impl Disk {
    fn new(input: &Input) -> Self {
        let sectors = u64::from(input.sectors % 64);
        let file = stage::anonymous(sectors * SECTOR + u64::from(input.tail));
        let served = file.try_clone().unwrap();
        let guest = Guest::new(blk::device(&spawner(), served, input.read_only, "fuzz").unwrap());
        let len = sectors * SECTOR + BEHIND;
        let mut model = vec![0; len as usize];
        model[(sectors * SECTOR) as usize..].fill(CANARY);
        file.write_all_at(&model, 0).unwrap();
        Self { guest, file, read_only: input.read_only, sectors, model }
    }

    fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.model.len() + 1];
        let len = self.file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(len, self.model.len(), "the file has another length");
        bytes.truncate(len);
        bytes
    }

    /// Fails if the file is not as expected; `forgotten` bytes may be anything.
    fn check(&mut self, forgotten: bool) {
        let contents = self.contents();
        let end = (self.sectors * SECTOR) as usize;
        assert!(contents[end..] == self.model[end..], "bytes behind the disk's end changed");
        if forgotten && !self.read_only {
            self.model = contents;
        } else {
            assert!(contents == self.model, "the disk is not what was written");
        }
    }

    fn fits(&self, sector: u64, len: u64) -> bool {
        let end = sector.checked_add(len / SECTOR);
        len.is_multiple_of(SECTOR) && end.is_some_and(|end| end <= self.sectors)
    }

    /// Makes a request and returns its status; none: there was no answer to be had, and whatever it
    /// may have done is taken note of.
    fn request(&mut self, kind: u32, sector: u64, pieces: &[Piece]) -> Option<u8> {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        let at = self.guest.alloc(16);
        self.guest.memory.write_obj(0xff_u8, GuestAddress(at)).unwrap();
        let status = Piece::Any { address: at as u32, high: false, len: 1, writable: true };
        let whole: Vec<_> =
            [Piece::Out(header)].iter().chain(pieces).chain([&status]).cloned().collect();
        self.guest.offer(0, &whole, false)?;
        self.settle();
        if !self.guest.served() {
            // A guest that has broken its own rings does not know what became of it.
            self.check(true);
            return None;
        }
        Some(self.guest.memory.read_obj(GuestAddress(at)).unwrap())
    }

    fn settle(&mut self) {
        self.guest.kick(0);
        self.guest.step();
        self.guest.take_back();
        self.guest.expect_all_back([0]);
    }

    fn read(&mut self, sector: u64, len: u64) {
        let place = self.guest.alloc(len);
        let half = (len / 2) as u32;
        let piece = |address: u64, len: u32| Piece::Any {
            address: address as u32,
            high: false,
            len,
            writable: true,
        };
        let pieces = [piece(place, half), piece(place + u64::from(half), len as u32 - half)];
        let Some(status) = self.request(IN, sector, &pieces) else { return };
        let fits = self.fits(sector, len);
        assert_eq!(status == 0, fits, "read of {len} bytes at sector {sector}: status {status}");
        if fits {
            let mut bytes = vec![0; len as usize];
            self.guest.memory.read_slice(&mut bytes, GuestAddress(place)).unwrap();
            let from = (sector * SECTOR) as usize;
            assert!(bytes == self.model[from..from + bytes.len()], "not what was written");
        }
    }

    fn write(&mut self, sector: u64, len: u64, fill: u8) {
        let bytes: Vec<u8> = (0..len).map(|at| fill.wrapping_add(at as u8)).collect();
        let (first, second) = bytes.split_at(bytes.len() / 3);
        let pieces = [Piece::Out(first.to_vec()), Piece::Out(second.to_vec())];
        let Some(status) = self.request(OUT, sector, &pieces) else { return };
        let right = !self.read_only && self.fits(sector, len);
        assert_eq!(status == 0, right, "write of {len} bytes at sector {sector}: status {status}");
        if right {
            let from = (sector * SECTOR) as usize;
            self.model[from..from + bytes.len()].copy_from_slice(&bytes);
        }
    }

    fn erase(&mut self, discard: bool, ranges: &[(Sector, u8, u8)]) {
        let mut bytes = Vec::new();
        for (sector, count, flags) in ranges {
            bytes.extend(sector.number().to_le_bytes());
            bytes.extend(u32::from(*count).to_le_bytes());
            bytes.extend(u32::from(*flags).to_le_bytes());
        }
        let kind = if discard { DISCARD } else { WRITE_ZEROES };
        let Some(status) = self.request(kind, 0, &[Piece::Out(bytes)]) else { return };
        if status == 0 {
            assert!(!self.read_only, "a read-only disk was erased");
        }
        for (sector, count, _) in ranges {
            let len = u64::from(*count) * SECTOR;
            if status == 0 {
                assert!(self.fits(sector.number(), len), "erased past the end");
                let from = (sector.number() * SECTOR) as usize;
                self.model[from..from + len as usize].fill(0);
            }
        }
        // Of several ranges those before a wrong one are erased; what was forgotten is anything.
        self.check(discard || status != 0);
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Read { sector, sectors, more } => {
                let len = u64::from(sectors % 100) * SECTOR + u64::from(more & 1);
                self.read(sector.number(), len);
            }
            Op::Write { sector, sectors, more, fill } => {
                let len = u64::from(sectors % 100) * SECTOR + u64::from(more & 1);
                self.write(sector.number(), len, fill);
            }
            Op::Erase { discard, ranges } => self.erase(discard, &ranges),
            Op::Plain { kind, room } => {
                let kind = match kind % 8 {
                    0 => FLUSH,
                    1 => GET_ID,
                    _ => kind.into(),
                };
                let pieces = (room > 0).then(|| Piece::In(room.into()));
                self.request(kind, 0, pieces.as_slice());
                self.check(true);
            }
            Op::Chain { pieces, indirect } => {
                self.guest.offer(0, &pieces, indirect);
                self.settle();
                self.check(true);
            }
            Op::Scribble { address, bytes } => {
                self.guest.scribble(address.into(), &bytes);
                self.settle();
                self.check(true);
            }
            Op::Restart { features, queue } => self.guest.negotiate(features, &[queue]),
        }
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(mut input) = Input::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let ops = std::mem::take(&mut input.ops);
    limits::within(LARGEST, || {
        let mut disk = Disk::new(&input);
        disk.guest.negotiate(input.features, &[input.queue]);
        for op in ops {
            disk.apply(op);
        }
        disk.check(false);
    });
}
