//! A guest's driver that keeps the rules or breaks them: a device in a window, 1 MiB of memory, and
//! rings in it. It counts what it offers, so that it can tell what a device forgets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arbitrary::Arbitrary;
use virtio::device::Device;
use virtio::mmio::{MmioTransport, Shadow, Shadows};
use virtio::worker::Spawner;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Bytes of the guest's memory, which starts at 0.
pub(crate) const MEMORY: u64 = 1 << 20;
/// Queue `n` lies at `n + 1` times this: descriptors, then the two rings, then indirect tables.
const QUEUE_SPACE: u64 = 0x4000;
const DRIVER: u64 = 0x2000;
const DEVICE: u64 = 0x2800;
const TABLES: u64 = 0x3820;
/// Most entries of an indirect table.
const TABLE: usize = 16;
/// Tables of a queue.
const TABLE_COUNT: u64 = 7;
/// Buffers are placed from here on.
pub(crate) const DATA: u64 = 0x4_0000;

/// No more than this is placed of one piece.
const MAX_PIECE: u64 = 0x1_0000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// `VIRTIO_F_VERSION_1`.
const VERSION_1: u64 = 1 << 32;
/// `DEVICE_NEEDS_RESET`.
pub(crate) const NEEDS_RESET: u32 = 64;

/// A buffer of a chain.
#[derive(Debug, Clone, Arbitrary)]
pub(crate) enum Piece {
    /// These bytes, for the device to read.
    Out(Vec<u8>),
    /// Room for so many bytes.
    In(u16),
    /// Anything.
    Any { address: u32, high: bool, len: u32, writable: bool },
}

/// How many entries the descriptors of a queue have, as a power of two, and whether it is set up.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct QueueChoice {
    pub(crate) log_size: u8,
    pub(crate) absent: bool,
}

/// A chain that a device has not given back.
#[derive(Debug)]
struct Offered {
    head: u16,
    descriptors: u16,
    /// Bytes that the device may write, if the guest knows.
    room: Option<u64>,
}

/// Where a chain's descriptors are: in a table, of `size` entries, from the `first` one on.
pub(crate) struct Placed {
    table: u64,
    first: u64,
    size: u64,
}

impl Placed {
    /// Address of a descriptor.
    pub(crate) fn entry(&self, number: u64) -> u64 {
        self.table + 16 * ((self.first + number) % self.size)
    }
}

#[derive(Debug)]
struct Ring {
    base: u64,
    size: u16,
    next: u16,
    used_descriptors: u16,
    added: u16,
    seen: u16,
    offered: VecDeque<Offered>,
    tables: u64,
}

pub(crate) struct Guest {
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) transport: MmioTransport,
    pub(crate) shadow: Shadow,
    rings: Vec<Option<Ring>>,
    next: u64,
    /// The guest has written over its own rings, or had a device do it.
    tampered: bool,
}

/// A spawner without filters.
pub(crate) fn spawner() -> Spawner {
    Spawner::new(|_| Ok(()))
}

/// Memory of a guest.
pub(crate) fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).unwrap()
}

impl Guest {
    pub(crate) fn new(device: impl Device + 'static) -> Self {
        let memory = memory();
        let line = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let shadow = Shadows::new(1).window(0);
        let device = Box::new(device);
        let transport = MmioTransport::new(device, memory.clone(), line, shadow.clone()).unwrap();
        transport.publish();
        Self { transport, shadow, memory, rings: Vec::new(), next: DATA, tampered: false }
    }

    pub(crate) fn write(&mut self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    pub(crate) fn status(&self) -> u32 {
        self.shadow.read(0x70)
    }

    /// Whether the device serves its queues, as far as the guest can tell.
    pub(crate) fn served(&self) -> bool {
        !self.tampered && self.status() & (4 | NEEDS_RESET | 128) == 4
    }

    fn offers(&mut self) -> u64 {
        self.write(0x14, 0);
        let low = self.shadow.read(0x10);
        self.write(0x14, 1);
        u64::from(self.shadow.read(0x10)) << 32 | u64::from(low)
    }

    /// All steps up to `DRIVER_OK`: with those of `features` that are offered, and with the queues
    /// as chosen; those without a choice have their largest size.
    pub(crate) fn negotiate(&mut self, features: u64, choices: &[QueueChoice]) {
        for status in [0, 1, 3] {
            self.write(0x70, status);
        }
        let features = self.offers() & features | VERSION_1;
        for (selector, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(0x24, selector);
            self.write(0x20, half);
        }
        self.write(0x70, 11);
        assert_eq!(self.status(), 11, "features refused");
        self.rings.clear();
        self.tampered = false;
        for index in 0.. {
            self.write(0x30, index);
            let most = self.shadow.read(0x34) as u16;
            if most == 0 {
                break;
            }
            let choice = choices.get(index as usize);
            let size = choice.map_or(most, |choice| 1 << (choice.log_size % 10)).min(most);
            let absent = choice.is_some_and(|choice| choice.absent);
            self.rings.push((!absent).then(|| Ring::new(index, size)));
            if !absent {
                self.place(index);
            }
        }
        self.write(0x70, 15);
        self.step();
    }

    fn place(&mut self, index: u32) {
        let Some(Some(ring)) = self.rings.get(index as usize) else { return };
        let (base, size) = (ring.base, ring.size);
        self.memory.write_slice(&[0; QUEUE_SPACE as usize], GuestAddress(base)).unwrap();
        self.write(0x38, size.into());
        for (register, address) in [(0x80, base), (0x90, base + DRIVER), (0xa0, base + DEVICE)] {
            self.write(register, address as u32);
            self.write(register + 4, 0);
        }
        self.write(0x44, 1);
        assert_eq!(self.shadow.read(0x44), 1, "queue refused");
    }

    /// Writes any register. What the guest knows of its queues may be wrong afterwards.
    pub(crate) fn write_any(&mut self, register: u64, value: u32) {
        self.tampered |= matches!(register, 0x20 | 0x38..=0x44 | 0x70..=0xa4);
        self.write(register, value);
    }

    /// Lets the device do what there is to do.
    pub(crate) fn step(&mut self) {
        virtio::fuzzing::step();
    }

    pub(crate) fn kick(&mut self, queue: u32) {
        self.write(0x50, queue);
    }

    /// Writes over any memory, also over rings.
    pub(crate) fn scribble(&mut self, address: u64, bytes: &[u8]) {
        let address = address % MEMORY;
        let len = bytes.len().min((MEMORY - address) as usize);
        self.tampered |= address < DATA;
        self.memory.write_slice(&bytes[..len], GuestAddress(address)).unwrap();
    }

    /// Memory for a buffer; it is given out again after a while.
    pub(crate) fn alloc(&mut self, len: u64) -> u64 {
        let len = len.min(MAX_PIECE).next_multiple_of(16);
        if self.next + len > MEMORY {
            self.next = DATA;
        }
        let address = self.next;
        self.next += len;
        address
    }

    fn descriptor(&mut self, piece: &Piece) -> (u64, u32, bool) {
        match piece {
            Piece::Out(bytes) => {
                let bytes = &bytes[..bytes.len().min(MAX_PIECE as usize)];
                let address = self.alloc(bytes.len() as u64);
                self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
                (address, bytes.len() as u32, false)
            }
            Piece::In(len) => (self.alloc((*len).into()), (*len).into(), true),
            Piece::Any { address, high, len, writable } => {
                let address = if *high { u64::from(*address) << 12 } else { (*address).into() };
                // What a device writes there is the guest's own fault.
                self.tampered |= *writable && address < DATA;
                (address, *len, *writable)
            }
        }
    }

    /// The guest will do what makes its own count wrong; until it negotiates again.
    pub(crate) fn tamper(&mut self) {
        self.tampered = true;
    }

    /// Offers a chain. Does nothing if there are not enough descriptors. Returns where its
    /// descriptors are.
    pub(crate) fn offer(&mut self, queue: u8, pieces: &[Piece], indirect: bool) -> Option<Placed> {
        let pieces = &pieces[..pieces.len().min(TABLE)];
        let entries: Vec<_> = pieces.iter().map(|piece| self.descriptor(piece)).collect();
        let count = self.rings.len();
        let ring = self.rings.get_mut(usize::from(queue) % count.max(1))?.as_mut()?;
        let needed = if indirect { 1 } else { entries.len() as u16 };
        if needed == 0 || needed > ring.size - ring.used_descriptors {
            return None;
        }
        let written = entries.iter().filter(|(.., writable)| *writable);
        let room = (!indirect).then(|| written.map(|(_, len, _)| u64::from(*len)).sum());
        let head = ring.next;
        let put = |at: u64, fields: (u64, u32, u16, u16)| {
            let (address, len, flags, next) = fields;
            self.memory.write_obj(address, GuestAddress(at)).unwrap();
            self.memory.write_obj(len, GuestAddress(at + 8)).unwrap();
            self.memory
                .write_obj(u32::from(next) << 16 | u32::from(flags), GuestAddress(at + 12))
                .unwrap();
        };
        let last = entries.len().wrapping_sub(1);
        let flags = |number: usize, writable: bool| {
            (if writable { WRITE } else { 0 }) | if number < last { NEXT } else { 0 }
        };
        let mut place = Placed { table: ring.base, first: head.into(), size: ring.size.into() };
        if indirect {
            let table = ring.base + TABLES + 16 * TABLE as u64 * (ring.tables % TABLE_COUNT);
            ring.tables += 1;
            for (number, (address, len, writable)) in entries.iter().enumerate() {
                let fields = (*address, *len, flags(number, *writable), number as u16 + 1);
                put(table + 16 * number as u64, fields);
            }
            put(place.entry(0), (table, 16 * entries.len() as u32, INDIRECT, 0));
            place = Placed { table, first: 0, size: TABLE as u64 };
        } else {
            for (number, (address, len, writable)) in entries.iter().enumerate() {
                let index = (head + number as u16) % ring.size;
                let next = (index + 1) % ring.size;
                let fields = (*address, *len, flags(number, *writable), next);
                put(ring.base + 16 * u64::from(index), fields);
            }
        }
        ring.next = (ring.next + needed) % ring.size;
        ring.used_descriptors += needed;
        ring.offered.push_back(Offered { head, descriptors: needed, room });
        ring.publish(&self.memory, head);
        Some(place)
    }

    /// Takes back what the device has used. Fails if that was never offered, is longer than there
    /// was room, or comes in another order: all devices here keep it.
    pub(crate) fn take_back(&mut self) -> Vec<(usize, u32)> {
        let mut back = Vec::new();
        if self.tampered {
            return back;
        }
        for (number, ring) in self.rings.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            while let Some((head, len)) = ring.used(&self.memory) {
                let offered = ring.offered.pop_front().expect("used, but not offered");
                assert_eq!(u32::from(offered.head), head, "queue {number}: wrong order");
                if let Some(room) = offered.room {
                    assert!(u64::from(len) <= room, "queue {number}: {len} bytes in {room}");
                }
                ring.used_descriptors -= offered.descriptors;
                back.push((number, len));
            }
        }
        back
    }

    /// How many chains of a queue the device has not given back.
    pub(crate) fn kept(&self, queue: usize) -> usize {
        self.rings.get(queue).and_then(Option::as_ref).map_or(0, |ring| ring.offered.len())
    }

    /// Fails if a device that serves its queues keeps chains of those in `queues`, although all
    /// were kicked.
    pub(crate) fn expect_all_back(&mut self, queues: impl IntoIterator<Item = usize>) {
        if !self.served() {
            return;
        }
        let queues: Vec<_> = queues.into_iter().collect();
        for queue in &queues {
            self.kick(*queue as u32);
        }
        self.step();
        self.take_back();
        for queue in queues {
            let kept = self.kept(queue);
            assert!(!self.served() || kept == 0, "queue {queue}: {kept} chains not given back");
        }
    }
}

impl Ring {
    fn new(index: u32, size: u16) -> Self {
        Self {
            base: u64::from(index + 1) * QUEUE_SPACE,
            size,
            next: 0,
            used_descriptors: 0,
            added: 0,
            seen: 0,
            offered: VecDeque::new(),
            tables: 0,
        }
    }

    fn publish(&mut self, memory: &GuestMemoryMmap, head: u16) {
        let driver = self.base + DRIVER;
        let slot = driver + 4 + 2 * u64::from(self.added % self.size);
        self.added = self.added.wrapping_add(1);
        memory.write_obj(head, GuestAddress(slot)).unwrap();
        memory.store(self.added, GuestAddress(driver + 2), Ordering::SeqCst).unwrap();
    }

    fn used(&mut self, memory: &GuestMemoryMmap) -> Option<(u32, u32)> {
        let device = self.base + DEVICE;
        let index: u16 = memory.load(GuestAddress(device + 2), Ordering::SeqCst).unwrap();
        if index == self.seen {
            return None;
        }
        let at = device + 4 + 8 * u64::from(self.seen % self.size);
        self.seen = self.seen.wrapping_add(1);
        let event = self.base + DRIVER + 4 + 2 * u64::from(self.size);
        memory.write_obj(self.seen, GuestAddress(event)).unwrap();
        let head = memory.read_obj(GuestAddress(at)).unwrap();
        let len = memory.read_obj(GuestAddress(at + 4)).unwrap();
        Some((head, len))
    }
}
