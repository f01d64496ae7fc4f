//! Descriptor chains: `pop`, `collect`, `push` and what is read of a driver's rings, on any rings.
//!
//! Checked besides panics:
//! - Every piece of a checked chain lies in the guest's memory.
//! - The pieces are as long as the chain says.
//! - A chain that is given back appears at its place in the used ring, and the ring's index counts
//!   it.
//! - That changes nothing of the memory outside of the used ring.

use std::sync::atomic::Ordering;

use arbitrary::{Arbitrary, Unstructured};
use virtio::fuzzing::{Checked, outlook, push};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

use crate::guest::{MEMORY, memory};

#[derive(Debug, Arbitrary)]
enum Op {
    Descriptor { index: u16, address: u32, len: u32, flags: u8, next: u16 },
    Available { slot: u16, head: u16 },
    Index(u16),
    Event(u16),
    Word { address: u32, value: u64 },
    Pop { offset: u16, len: u32 },
    Push(Vec<(u16, u32)>),
    Outlook,
}

#[derive(Debug, Arbitrary)]
struct Input {
    log_size: u8,
    places: [u32; 3],
    event_index: bool,
    ops: Vec<Op>,
}

struct Rings {
    size: u64,
    table: u64,
    driver: u64,
    device: u64,
}

/// A queue that the transport would take, and where it is.
fn queue(input: &Input, memory: &GuestMemoryMmap) -> Option<(Queue, Rings)> {
    let size = 1_u16 << (input.log_size % 11);
    let place =
        |number: usize, align: u64| u64::from(input.places[number]) % MEMORY / align * align;
    let (table, driver, device) = (place(0, 16), place(1, 2), place(2, 4));
    let mut queue = Queue::new(size).ok()?;
    queue.set_size(size);
    queue.set_desc_table_address(Some(table as u32), Some(0));
    queue.set_avail_ring_address(Some(driver as u32), Some(0));
    queue.set_used_ring_address(Some(device as u32), Some(0));
    queue.set_event_idx(input.event_index);
    queue.set_ready(true);
    let rings = Rings { size: size.into(), table, driver, device };
    queue.is_valid(memory).then_some((queue, rings))
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let memory = memory();
    let Some((mut queue, rings)) = queue(&input, &memory) else { return };
    for op in &input.ops {
        if !apply(op, &mut queue, &rings, &memory) {
            return;
        }
    }
}

/// Whether the queue can still be used.
fn apply(op: &Op, queue: &mut Queue, rings: &Rings, memory: &GuestMemoryMmap) -> bool {
    let word = |address: u64, value: u64| {
        // Past the end of memory there is nothing to write.
        let _ = memory.write_obj(value, GuestAddress(address));
    };
    let half = |address: u64, value: u16| {
        let _ = memory.write_obj(value, GuestAddress(address));
    };
    match *op {
        Op::Descriptor { index, address, len, flags, next } => {
            let at = rings.table + 16 * (u64::from(index) % rings.size);
            word(at, address.into());
            word(at + 8, u64::from(next) << 48 | u64::from(flags) << 32 | u64::from(len));
        }
        Op::Available { slot, head } => {
            half(rings.driver + 4 + 2 * (u64::from(slot) % rings.size), head)
        }
        Op::Index(index) => half(rings.driver + 2, index),
        Op::Event(event) => half(rings.driver + 4 + 2 * rings.size, event),
        Op::Word { address, value } => word(u64::from(address) % MEMORY, value),
        Op::Pop { offset, len } => return pop(queue, memory, offset.into(), len),
        Op::Push(ref used) => return give_back(queue, rings, memory, used),
        Op::Outlook => {
            if let Ok((under_way, _)) = outlook(queue, memory) {
                assert!(u64::from(under_way) <= rings.size);
            }
        }
    }
    true
}

fn pop(queue: &mut Queue, memory: &GuestMemoryMmap, offset: usize, len: u32) -> bool {
    let size = queue.size();
    let Ok(next) = Checked::pop(queue, memory) else { return false };
    let Some((head, checked)) = next else { return true };
    assert!(head < size);
    let Ok(chain) = checked else { return true };
    for (half, len_of_half) in
        [Checked::readable, Checked::writable].into_iter().zip(chain.lengths())
    {
        let whole =
            half(&chain, memory, 0, len_of_half).expect("a chain that is shorter than it says");
        expect_inside(&whole, len_of_half, memory);
        let len = len as usize % 0x1_0000;
        match half(&chain, memory, offset, len) {
            Some(part) => {
                assert!(len == 0 || offset + len <= len_of_half);
                expect_inside(&part, len, memory);
            }
            None => assert!(offset + len > len_of_half),
        }
    }
    let mut bytes = vec![0; (len % 0x2000) as usize];
    let [read, written] = chain.copy(memory, offset, &mut bytes);
    let fits = |len_of_half: usize| bytes.is_empty() || offset + bytes.len() <= len_of_half;
    assert_eq!([read, written], chain.lengths().map(fits));
    true
}

/// Fails if a piece is not in the guest's memory, or all together are not `len` bytes.
fn expect_inside(places: &[(usize, usize)], len: usize, memory: &GuestMemoryMmap) {
    let start = memory.get_host_address(GuestAddress(0)).unwrap().addr();
    for (address, size) in places {
        assert!(
            *address >= start && address + size <= start + MEMORY as usize,
            "outside of memory"
        );
    }
    assert_eq!(places.iter().map(|(_, size)| size).sum::<usize>(), len);
}

fn give_back(
    queue: &mut Queue,
    rings: &Rings,
    memory: &GuestMemoryMmap,
    used: &[(u16, u32)],
) -> bool {
    let used = &used[..used.len().min(8)];
    let old = queue.next_used();
    let mut before = vec![0; MEMORY as usize];
    memory.read_slice(&mut before, GuestAddress(0)).unwrap();
    let known = used.iter().all(|(head, _)| u64::from(*head) < rings.size);
    let given = push(queue, memory, used);
    assert_eq!(given.is_ok(), known, "{given:?}");
    if !known {
        return false;
    }
    assert_eq!(queue.next_used(), old.wrapping_add(used.len() as u16));
    let index: u16 = memory.load(GuestAddress(rings.device + 2), Ordering::SeqCst).unwrap();
    assert_eq!(index, queue.next_used());
    let mut after = vec![0; MEMORY as usize];
    memory.read_slice(&mut after, GuestAddress(0)).unwrap();
    let end = (rings.device + 4 + 8 * rings.size) as usize;
    assert!(
        before[..rings.device as usize] == after[..rings.device as usize],
        "written before the ring"
    );
    assert!(before[end..] == after[end..], "written past the ring");
    for (number, (head, len)) in used.iter().enumerate().rev().take(rings.size as usize) {
        let slot = u64::from(old.wrapping_add(number as u16)) % rings.size;
        let at = GuestAddress(rings.device + 4 + 8 * slot);
        let entry: u64 = memory.read_obj(at).unwrap();
        assert_eq!(entry, u64::from(*len) << 32 | u64::from(*head));
    }
    true
}
