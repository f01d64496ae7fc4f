//! The shared directory: requests of all kinds that the protocol has, while a second thread of the
//! guest changes what they are made of.
//!
//! Checked besides panics: nothing outside of the share changes; no request makes the host allocate
//! more than a request may have; every chain comes back.

use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::{Result, Unstructured};
use virtio::fs;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::guest::{Guest, MEMORY, Piece, Placed, spawner};
use crate::{limits, stage};

/// Most bytes of one allocation: a request may have 2 MiB; a little around it.
const LARGEST: usize = 0x28_0000;
/// Most requests of an input.
const REQUESTS: usize = 48;
/// How often a request is made while the second thread works.
const AGAIN: usize = 16;

/// In place of an address: there is no more to change.
const OVER: u64 = u32::MAX as u64;

/// The first request of a guest.
const INIT: u32 = 26;

/// The queue of requests.
const QUEUE: u8 = 1;

/// What follows the header of each kind of request: `d` a small number or flags of 4 bytes, `q` one
/// of 8, `z` a size of 4, `o` an offset of 8, `h` a file that was opened, `n` an inode, `s` a name,
/// `b` bytes.
const KINDS: [(u32, &str); 42] = [
    (1, "s"),
    (2, "q"),
    (3, "ddh"),
    (4, "ddhoqqqqdddddddd"),
    (5, ""),
    (6, "ss"),
    (8, "dddds"),
    (9, "dds"),
    (10, "s"),
    (11, "s"),
    (12, "nss"),
    (13, "ns"),
    (14, "dd"),
    (15, "hozdqdd"),
    (16, "hozdqddb"),
    (17, ""),
    (18, "hddq"),
    (20, "hdd"),
    (21, "zdsb"),
    (22, "zds"),
    (23, "zd"),
    (24, "s"),
    (25, "hddq"),
    (26, "dddddddddddddddd"),
    (27, "dd"),
    (28, "hozdqdd"),
    (29, "hddq"),
    (30, "hdd"),
    (31, "hqoodddd"),
    (34, "dd"),
    (35, "dddds"),
    (36, "q"),
    (37, "qdd"),
    (38, ""),
    (39, "hddqzz"),
    (40, "hqdd"),
    (42, "ddnqnqnq"),
    (43, "hoodd"),
    (44, "hozdqdd"),
    (45, "nddss"),
    (46, "hodd"),
    (47, "honhoqq"),
];

const SIZES: [u32; 12] =
    [0, 1, 16, 4095, 4096, 0x1_0000, 0x8_0000, 0xf_ff00, 0x10_0000, 0x2c_0000, 0x70_0000, u32::MAX];
const NUMBERS: [u32; 16] = [
    0,
    1,
    2,
    3,
    4,
    7,
    26,
    31,
    0o755,
    0o7777,
    0o100_644,
    0o120_777,
    0o20_666,
    0o101_102,
    0x8000,
    u32::MAX,
];
const NAMES: [&[u8]; 12] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b".",
    b"..",
    b"",
    b"a/b",
    b"user.x",
    b"security.capability",
    b"x\xff",
    b"../secret",
];

/// What the guest has been given.
struct World {
    guest: Guest,
    inodes: Vec<u64>,
    handles: Vec<u64>,
}

fn pick<T: Copy>(u: &mut Unstructured<'_>, from: &[T]) -> Result<T> {
    u.choose(from).copied()
}

impl World {
    fn field(&self, kind: char, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        Ok(match kind {
            'd' if u.ratio(7, 8)? => pick(u, &NUMBERS)?.to_le_bytes().to_vec(),
            'd' => u.arbitrary::<u32>()?.to_le_bytes().to_vec(),
            'q' => u64::from(pick(u, &NUMBERS)?).to_le_bytes().to_vec(),
            'z' => pick(u, &SIZES)?.to_le_bytes().to_vec(),
            'o' if u.ratio(7, 8)? => u64::from(pick(u, &SIZES)?).to_le_bytes().to_vec(),
            'o' => u.arbitrary::<u64>()?.to_le_bytes().to_vec(),
            'h' => pick(u, &self.handles)?.to_le_bytes().to_vec(),
            'n' => pick(u, &self.inodes)?.to_le_bytes().to_vec(),
            's' => [pick(u, &NAMES)?, b"\0"].concat(),
            _ => u.arbitrary()?,
        })
    }

    fn request(&self, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let (opcode, layout) =
            if u.ratio(15, 16)? { pick(u, &KINDS)? } else { (u.arbitrary::<u8>()?.into(), "b") };
        let mut body = Vec::new();
        for kind in layout.chars() {
            body.extend(self.field(kind, u)?);
        }
        let user = pick(u, &[0, 0, 1000_u32])?;
        let len = 40 + body.len() as u32 + u32::from(u.ratio(1, 16)?);
        let mut request = Vec::new();
        for word in [len, opcode] {
            request.extend(word.to_le_bytes());
        }
        request.extend(7_u64.to_le_bytes());
        request.extend(pick(u, &self.inodes)?.to_le_bytes());
        for word in [user, user, 1, 0] {
            request.extend(word.to_le_bytes());
        }
        request.extend(body);
        Ok(request)
    }

    /// A request with more to read behind it, and room for its answer.
    fn chain(&mut self, u: &mut Unstructured<'_>) -> Result<(Vec<Piece>, u64)> {
        let request = self.request(u)?;
        let mut pieces = Vec::new();
        let cut = if u.ratio(1, 4)? { u.choose_index(request.len())? } else { 0 };
        let (first, second) = request.split_at(cut);
        pieces.extend(
            [first, second]
                .iter()
                .filter(|part| !part.is_empty())
                .map(|part| Piece::Out(part.to_vec())),
        );
        for _ in 0..if u.ratio(1, 4)? { u.int_in_range(1..=5)? } else { 0 } {
            let len = pick(u, &SIZES)?;
            pieces.push(Piece::Any { address: 0, high: false, len, writable: false });
        }
        let answer = self.guest.alloc(0x1_0000);
        let room = pick(u, &SIZES)?.min((MEMORY - answer) as u32);
        pieces.push(Piece::Any { address: answer as u32, high: false, len: room, writable: true });
        if u.ratio(1, 16)? {
            pieces.push(u.arbitrary()?);
        }
        Ok((pieces, answer))
    }

    fn learn(&mut self, answer: u64) {
        let mut bytes = [0; 152];
        if self.guest.memory.read_slice(&mut bytes, GuestAddress(answer)).is_err() {
            return;
        }
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let len = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let (number, second) = (long(16), long(144));
        match len {
            // An entry, and one that is open.
            144 | 160 if self.inodes.len() < 64 => self.inodes.push(number),
            32 if self.handles.len() < 64 => self.handles.push(number),
            _ => {}
        }
        if len == 160 && self.handles.len() < 64 {
            self.handles.push(second);
        }
    }

    fn one(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (pieces, answer) = self.chain(u)?;
        let indirect = u.ratio(1, 2)?;
        let flip = if u.ratio(1, 4)? { Some(Flip::choose(u, pieces.len())?) } else { None };
        let Some(flip) = flip else {
            self.guest.memory.write_obj(0_u64, GuestAddress(answer)).unwrap();
            self.guest.offer(QUEUE, &pieces, indirect);
            self.settle();
            self.learn(answer);
            return Ok(());
        };
        self.guest.tamper();
        let memory = self.guest.memory.clone();
        flip.during(&memory, |word| {
            for _ in 0..AGAIN {
                let Some(place) = self.guest.offer(QUEUE, &pieces, indirect) else { break };
                let at = flip.place(&place, &memory);
                let original = memory.read_obj::<u32>(GuestAddress(at)).unwrap();
                word.store(at << 32 | u64::from(original), Ordering::Relaxed);
                self.settle();
            }
        });
        self.begin();
        Ok(())
    }

    /// Mounts the share.
    fn begin(&mut self) {
        self.guest.negotiate(u64::MAX, &[]);
        (self.inodes, self.handles) = (vec![1], vec![0]);
        let mut request = Vec::new();
        for word in [40 + 64, INIT, 1, 0, 1, 0, 0, 0, 0, 0, 7, 38, 0x2_0000, u32::MAX, u32::MAX] {
            request.extend(word.to_le_bytes());
        }
        request.resize(40 + 64, 0);
        self.guest.offer(QUEUE, &[Piece::Out(request), Piece::In(256)], false);
        self.settle();
    }

    fn settle(&mut self) {
        self.guest.kick(QUEUE.into());
        self.guest.step();
        self.guest.take_back();
        assert!(!self.guest.served() || self.guest.kept(QUEUE.into()) == 0, "a request is kept");
    }
}

/// A word that the second thread changes, for ever: of a descriptor, or a request's kind.
struct Flip {
    piece: u64,
    offset: u64,
    value: u32,
}

impl Flip {
    /// In place of an offset in a descriptor: that of the kind in the request itself.
    const KIND: u64 = 16 + 4;

    fn choose(u: &mut Unstructured<'_>, pieces: usize) -> Result<Self> {
        let piece = u.choose_index(pieces)? as u64;
        let offset = pick(u, &[8, 8, 12, 0, Self::KIND])?;
        let value = match offset {
            8 => pick(u, &SIZES)?,
            Self::KIND => pick(u, &KINDS)?.0,
            _ => pick(u, &[0, 1, 2, 3, 4, 0x1_0001])?,
        };
        Ok(Self { piece, offset, value })
    }

    /// Where the word is.
    fn place(&self, chain: &Placed, memory: &GuestMemoryMmap) -> u64 {
        if self.offset == Self::KIND {
            memory.read_obj::<u64>(GuestAddress(chain.entry(0))).unwrap() + 4
        } else {
            chain.entry(self.piece) + self.offset
        }
    }

    /// Does `work` while another thread writes now the one value, now the other. `work` says where,
    /// and what was there: the address in the upper half of a number, the word in its lower one.
    fn during(&self, memory: &GuestMemoryMmap, work: impl FnOnce(&AtomicU64)) {
        let word = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    let (now, value) = (word.load(Ordering::Relaxed), self.value);
                    let at = GuestAddress(now >> 32);
                    match at.0 {
                        0 => std::thread::yield_now(),
                        OVER => return,
                        _ => {
                            memory.store(value, at, Ordering::Relaxed).unwrap();
                            memory.store(now as u32, at, Ordering::Relaxed).unwrap();
                        }
                    }
                }
            });
            work(&word);
            word.store(OVER << 32, Ordering::Relaxed);
        });
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let u = &mut Unstructured::new(input);
    let config = fs::FsConfig { tag: "fuzz".into(), root: stage::share(), max_files: 1000 };
    let guest = Guest::new(fs::device(&spawner(), &config).unwrap());
    let mut world = World { guest, inodes: vec![1], handles: vec![0] };
    limits::within(LARGEST, || {
        world.begin();
        for _ in 0..REQUESTS {
            if u.is_empty() || world.one(u).is_err() {
                break;
            }
        }
        drop(world);
    });
    stage::check();
}
