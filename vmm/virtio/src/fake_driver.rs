//! A driver for tests. It talks to a device through its MMIO window and rings in memory of its own,
//! as a guest's kernel would. It can break every rule.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::device::Device;
use crate::mmio::{MmioTransport, Shadow, Shadows};
use crate::worker::Spawner;

/// Bytes of the guest's memory, which starts at 0.
pub(crate) const MEMORY: u64 = 32 << 20;
/// Where queue `n` lies: at `(n + 1) * QUEUE_SPACE`.
const QUEUE_SPACE: u64 = 0x2_0000;
/// From here on memory is given out by [`Driver::alloc`].
const DATA: u64 = 0x10_0000;
/// No device needs longer than this for anything, even under an emulator.
const PATIENCE_MS: i32 = 20_000;

/// Descriptor flag: another one follows.
pub(crate) const NEXT: u16 = 1;
/// Descriptor flag: the device writes.
pub(crate) const WRITE: u16 = 2;

/// A buffer of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) writable: bool,
}

#[derive(Debug, Default)]
struct Ring {
    base: u64,
    size: u16,
    free: Vec<u16>,
    added: u16,
    seen: u16,
    chains: HashMap<u16, Vec<u16>>,
}

impl Ring {
    fn driver(&self) -> u64 {
        self.base + 0x1_0000
    }
    fn device(&self) -> u64 {
        self.base + 0x1_4000
    }
}

pub(crate) struct Driver {
    pub(crate) transport: MmioTransport,
    pub(crate) shadow: Shadow,
    pub(crate) memory: GuestMemoryMmap,
    line: Arc<EventFd>,
    epoll: Epoll,
    rings: Vec<Ring>,
    next: u64,
}

/// What the driver can see of how many requests of `queue` the device has finished.
pub(crate) fn finished(memory: &GuestMemoryMmap, queue: u64) -> u16 {
    let ring = Ring { base: (queue + 1) * QUEUE_SPACE, ..Ring::default() };
    memory.load(GuestAddress(ring.device() + 2), std::sync::atomic::Ordering::SeqCst).unwrap()
}

/// A spawner without filters.
pub(crate) fn spawner() -> Spawner {
    Spawner::new(|_| Ok(()))
}

impl Driver {
    pub(crate) fn new(device: impl Device + 'static) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).unwrap();
        let line = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let epoll = Epoll::new().unwrap();
        let event = EpollEvent::new(EventSet::IN, 0);
        epoll.ctl(ControlOperation::Add, line.as_raw_fd(), event).unwrap();
        let shadow = Shadows::new(1).window(0);
        let (device, wire) = (Box::new(device), Arc::clone(&line));
        let transport = MmioTransport::new(device, memory.clone(), wire, shadow.clone()).unwrap();
        assert_eq!(shadow.read(0x8), 0, "nothing shows before it is published");
        transport.publish();
        Self { transport, shadow, memory, line, epoll, rings: Vec::new(), next: DATA }
    }

    /// The driver with its memory, for which `device` goes on where the present one is parked. The
    /// window that it finds is another one.
    pub(crate) fn moved_to(mut self, device: impl Device + 'static) -> Self {
        let state = self.transport.park().unwrap();
        let shadow = Shadows::new(1).window(0);
        let (device, wire) = (Box::new(device), Arc::clone(&self.line));
        let memory = self.memory.clone();
        let restored = MmioTransport::restore(device, memory, wire, shadow.clone(), &state);
        self.transport = restored.unwrap();
        self.transport.publish();
        self.shadow = shadow;
        self
    }

    /// Whether a driver that heeds the event index would notify the device of its next request
    /// (§2.7.10).
    pub(crate) fn would_notify(&self, queue: usize) -> bool {
        let ring = &self.rings[queue];
        let at = GuestAddress(ring.device() + 4 + 8 * u64::from(ring.size));
        let event: u16 = self.memory.read_obj(at).unwrap();
        event == ring.added
    }

    /// A device whose driver is ready, with all features.
    pub(crate) fn ready(device: impl Device + 'static) -> Self {
        let mut driver = Self::new(device);
        driver.negotiate(u64::MAX);
        driver
    }

    pub(crate) fn read(&self, offset: u64) -> u32 {
        self.shadow.read(offset)
    }

    pub(crate) fn write(&mut self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    pub(crate) fn status(&self) -> u32 {
        self.read(0x70)
    }

    pub(crate) fn offered(&mut self) -> u64 {
        self.write(0x14, 0);
        let low = self.read(0x10);
        self.write(0x14, 1);
        u64::from(self.read(0x10)) << 32 | u64::from(low)
    }

    pub(crate) fn accept(&mut self, features: u64) {
        for (selector, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(0x24, selector);
            self.write(0x20, half);
        }
    }

    /// All steps up to `DRIVER_OK`, with the offered features that `mask` allows.
    pub(crate) fn negotiate(&mut self, mask: u64) {
        self.negotiate_queues(mask, u32::MAX);
    }

    /// As [`Driver::negotiate`], but sets up the first `count` queues only.
    pub(crate) fn negotiate_queues(&mut self, mask: u64, count: u32) {
        self.write(0x70, 0);
        self.write(0x70, 1);
        self.write(0x70, 3);
        let features = self.offered() & mask;
        self.accept(features);
        self.write(0x70, 11);
        assert_eq!(self.status(), 11, "features refused");
        self.set_up_queues(count);
        self.write(0x70, 15);
    }

    pub(crate) fn set_up_queues(&mut self, count: u32) {
        self.rings.clear();
        for index in 0..count {
            self.write(0x30, index);
            let size = self.read(0x34);
            if size == 0 {
                break;
            }
            let base = u64::from(index + 1) * QUEUE_SPACE;
            let zeros = vec![0; QUEUE_SPACE as usize];
            self.memory.write_slice(&zeros, GuestAddress(base)).unwrap();
            let size = u16::try_from(size).unwrap();
            let ring = Ring { base, size, free: (0..size).rev().collect(), ..Ring::default() };
            self.place_queue(u32::from(size), [ring.base, ring.driver(), ring.device()]);
            self.rings.push(ring);
        }
    }

    /// Sets up the selected queue and says whether the device took it.
    pub(crate) fn place_queue(&mut self, size: u32, addresses: [u64; 3]) -> bool {
        self.write(0x38, size);
        for (register, address) in [0x80, 0x90, 0xa0].into_iter().zip(addresses) {
            self.write(register, address as u32);
            self.write(register + 4, (address >> 32) as u32);
        }
        self.write(0x44, 1);
        self.read(0x44) == 1
    }

    /// Where the next buffer will be, for [`Driver::give_back`].
    pub(crate) fn mark(&self) -> u64 {
        self.next
    }

    /// All buffers since `mark` are given out again.
    pub(crate) fn give_back(&mut self, mark: u64) {
        self.next = mark;
    }

    /// Memory for a buffer; all of it is given out again after a reset of the test only.
    pub(crate) fn alloc(&mut self, len: usize) -> u64 {
        let address = self.next;
        self.next += (len as u64).next_multiple_of(16);
        assert!(self.next <= MEMORY, "test memory used up");
        address
    }

    /// A readable buffer with these bytes.
    pub(crate) fn out(&mut self, bytes: &[u8]) -> Piece {
        let address = self.alloc(bytes.len());
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
        Piece { address, len: bytes.len() as u32, writable: false }
    }

    /// A writable buffer of `len` bytes.
    pub(crate) fn space(&mut self, len: u32) -> Piece {
        Piece { address: self.alloc(len as usize), len, writable: true }
    }

    pub(crate) fn bytes(&self, piece: Piece) -> Vec<u8> {
        let mut bytes = vec![0; piece.len as usize];
        self.memory.read_slice(&mut bytes, GuestAddress(piece.address)).unwrap();
        bytes
    }

    pub(crate) fn put_descriptor(&self, queue: usize, index: u16, fields: (u64, u32, u16, u16)) {
        let at = self.rings[queue].base + 16 * u64::from(index);
        let (address, len, flags, next) = fields;
        self.memory.write_obj(address, GuestAddress(at)).unwrap();
        self.memory.write_obj(len, GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        self.memory.write_obj(next, GuestAddress(at + 14)).unwrap();
    }

    /// Where the descriptors lie that the next request of `count` buffers will use.
    pub(crate) fn next_descriptors(&self, queue: usize, count: usize) -> Vec<u64> {
        let ring = &self.rings[queue];
        let next = &ring.free[ring.free.len() - count..];
        next.iter().map(|index| ring.base + 16 * u64::from(*index)).collect()
    }

    /// Puts any head into the available ring and kicks.
    pub(crate) fn offer(&mut self, queue: usize, head: u16) {
        self.offer_silently(queue, head);
        self.write(0x50, queue as u32);
    }

    /// Puts any head into the available ring.
    fn offer_silently(&mut self, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let slot = ring.driver() + 4 + 2 * u64::from(ring.added % ring.size);
        ring.added = ring.added.wrapping_add(1);
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        let index = GuestAddress(ring.driver() + 2);
        self.memory.store(ring.added, index, std::sync::atomic::Ordering::SeqCst).unwrap();
    }

    /// Sets the available ring's index to anything and kicks.
    pub(crate) fn corrupt_index(&mut self, queue: usize, index: u16) {
        let at = GuestAddress(self.rings[queue].driver() + 2);
        self.memory.write_obj(index, at).unwrap();
        self.write(0x50, queue as u32);
    }

    /// Gives the device a request and returns its head.
    pub(crate) fn submit(&mut self, queue: usize, pieces: &[Piece]) -> u16 {
        let head = self.submit_silently(queue, pieces);
        self.write(0x50, queue as u32);
        head
    }

    /// As [`Driver::submit`], but the device is not told.
    pub(crate) fn submit_silently(&mut self, queue: usize, pieces: &[Piece]) -> u16 {
        let ring = &mut self.rings[queue];
        let used = ring.free.split_off(ring.free.len() - pieces.len());
        let head = used[0];
        ring.chains.insert(head, used.clone());
        for (number, piece) in pieces.iter().enumerate() {
            let next = used.get(number + 1).copied();
            let flags = if piece.writable { WRITE } else { 0 } | next.map_or(0, |_| NEXT);
            let fields = (piece.address, piece.len, flags, next.unwrap_or(0));
            self.put_descriptor(queue, used[number], fields);
        }
        self.offer_silently(queue, head);
        head
    }

    /// The next request that the device has finished: its head and used length.
    pub(crate) fn poll_used(&mut self, queue: usize) -> Option<(u16, u32)> {
        let ring = &mut self.rings[queue];
        let index: u16 = self
            .memory
            .load(GuestAddress(ring.device() + 2), std::sync::atomic::Ordering::SeqCst)
            .unwrap();
        if index == ring.seen {
            return None;
        }
        let at = ring.device() + 4 + 8 * u64::from(ring.seen % ring.size);
        ring.seen = ring.seen.wrapping_add(1);
        // As a driver does that wants an interrupt for the next one (event index).
        let event = ring.driver() + 4 + 2 * u64::from(ring.size);
        self.memory.write_obj(ring.seen, GuestAddress(event)).unwrap();
        let head: u32 = self.memory.read_obj(GuestAddress(at)).unwrap();
        let len: u32 = self.memory.read_obj(GuestAddress(at + 4)).unwrap();
        let head = u16::try_from(head).unwrap();
        ring.free.extend(ring.chains.remove(&head).unwrap_or_default());
        Some((head, len))
    }

    /// Waits for an interrupt, acknowledges it, and returns the reasons.
    pub(crate) fn interrupt(&mut self) -> u32 {
        let mut events = [EpollEvent::default()];
        let count = self.epoll.wait(PATIENCE_MS, &mut events).unwrap();
        assert_eq!(count, 1, "no interrupt came");
        self.line.read().unwrap();
        let reasons = self.read(0x60);
        self.write(0x64, reasons);
        assert_eq!(self.read(0x60), 1, "that buffers may have been used always shows");
        reasons
    }

    /// Waits until the device has finished a request.
    pub(crate) fn used(&mut self, queue: usize) -> (u16, u32) {
        loop {
            if let Some(used) = self.poll_used(queue) {
                return used;
            }
            self.interrupt();
        }
    }

    /// Waits until the device wants to be reset.
    pub(crate) fn failed(&mut self) {
        while self.status() & 64 == 0 {
            self.interrupt();
        }
    }

    /// Submits one request and waits for it; returns the used length.
    pub(crate) fn request(&mut self, queue: usize, pieces: &[Piece]) -> u32 {
        let head = self.submit(queue, pieces);
        let (used, len) = self.used(queue);
        assert_eq!(used, head);
        len
    }
}
