//! The registers of one to four windows: any writes, of any width, at any offset.
//!
//! Checked besides panics:
//! - The status bits follow their rules. Only a write of 4 bytes to their register changes them.
//! - Features which were not offered are not agreed on.
//! - A queue is ready only once the features are agreed on, and only if the device has it.
//! - A write to the configuration changes nothing.
//! - A write to a window changes no other one.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arbitrary::{Arbitrary, Unstructured};
use virtio::device::Device;
use virtio::mmio::{MmioTransport, Shadows, WINDOW_SIZE};
use virtio::{console, rng};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::guest::{MEMORY, memory, spawner};

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const NEEDS_RESET: u32 = 64;
const FAILED: u32 = 128;
const STATUS: u64 = 0x70;

#[derive(Debug, Arbitrary)]
enum Op {
    Word {
        window: u8,
        register: u8,
        value: u32,
    },
    Bytes {
        window: u8,
        offset: u16,
        bytes: Vec<u8>,
    },
    /// The usual steps up to a state, with no features but version 1.
    Steps {
        window: u8,
        count: u8,
    },
    Queue {
        window: u8,
        index: u8,
        size: u16,
        places: [u32; 3],
    },
    Memory {
        address: u32,
        value: u64,
    },
    Step,
}

#[derive(Debug, Arbitrary)]
struct Input {
    consoles: Vec<bool>,
    ops: Vec<Op>,
}

struct Windows {
    shadows: Shadows,
    transports: Vec<MmioTransport>,
    memory: GuestMemoryMmap,
    /// Features that were written last, in halves, and which half is to be written.
    features: Vec<([u32; 2], u32)>,
}

fn device(is_console: bool) -> Box<dyn Device> {
    let spawner = spawner();
    if !is_console {
        return Box::new(rng::device(&spawner).unwrap());
    }
    let output = File::options().write(true).open("/dev/null").unwrap();
    Box::new(console::device(&spawner, output, Arc::new(AtomicU64::new(0))).unwrap())
}

impl Windows {
    fn new(consoles: &[bool]) -> Self {
        let shadows = Shadows::new(4);
        let memory = memory();
        let kinds = consoles.iter().copied().chain([true]).take(4);
        let transports = kinds.enumerate().map(|(index, is_console)| {
            let line = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
            let shadow = shadows.window(index);
            let window =
                MmioTransport::new(device(is_console), memory.clone(), line, shadow).unwrap();
            window.publish();
            window
        });
        let transports: Vec<_> = transports.collect();
        let features = vec![([0; 2], 0); transports.len()];
        Self { shadows, transports, memory, features }
    }

    fn status(&self, window: usize) -> u32 {
        self.shadows.window(window).read(STATUS)
    }

    /// All that the guest can read of a window.
    fn contents(&self, window: usize) -> Vec<u32> {
        let shadow = self.shadows.window(window);
        (0..WINDOW_SIZE).step_by(4).map(|register| shadow.read(register)).collect()
    }

    fn write(&mut self, window: u8, offset: u64, bytes: &[u8]) {
        let window = usize::from(window) % self.transports.len();
        let others: Vec<_> = (0..8).filter(|other| *other != window).collect();
        let before: Vec<_> = others.iter().map(|other| self.contents(*other)).collect();
        let old = self.status(window);
        self.transports[window].write(offset, bytes);
        let new = self.status(window);
        let after: Vec<_> = others.iter().map(|other| self.contents(*other)).collect();
        assert!(before == after, "a write to window {window} changed another");
        let word = <[u8; 4]>::try_from(bytes).ok().map(u32::from_le_bytes);
        self.check_status(window, [old, new], (offset, word));
    }

    fn check_status(&mut self, window: usize, [old, new]: [u32; 2], wrote: (u64, Option<u32>)) {
        let (halves, selected) = &mut self.features[window];
        let (offset, Some(value)) = wrote else {
            return assert_eq!(new, old, "a write of another width than 4 did something");
        };
        match offset {
            0x24 => *selected = value,
            0x20 if old & FEATURES_OK == 0 && *selected < 2 => halves[*selected as usize] = value,
            STATUS if value == 0 => {
                (*halves, *selected) = ([0; 2], 0);
                return assert_eq!(new, 0, "a reset clears the status");
            }
            _ => {}
        }
        if offset != STATUS {
            return assert_eq!(new, old, "register {offset:#x} changed the status");
        }
        assert_eq!(new & old, old, "only a reset clears bits");
        assert_eq!(new & !(old | value | NEEDS_RESET), 0, "bits that nobody wrote");
        for (bit, needed) in
            [(DRIVER, ACKNOWLEDGE), (FEATURES_OK, DRIVER), (DRIVER_OK, FEATURES_OK)]
        {
            assert!(new & bit == 0 || new & needed != 0, "status {new:#x} without {needed}");
        }
        assert!(
            new & NEEDS_RESET == 0 || new & DRIVER_OK != 0,
            "failed before it was asked to work"
        );
        if old & FAILED != 0 {
            assert_eq!(new & !NEEDS_RESET, old & !NEEDS_RESET, "a driver that gave up goes on");
        }
        // These devices have no features but version 1.
        let agreed = *halves == [0, 1];
        assert!(new & FEATURES_OK == 0 || agreed, "features {halves:x?} agreed on");
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Word { window, register, value } => {
                self.write(window, 4 * u64::from(register), &value.to_le_bytes());
            }
            Op::Bytes { window, offset, bytes } => {
                let before = self.contents(usize::from(window) % self.transports.len());
                self.write(window, offset.into(), &bytes);
                if offset >= 0x100 {
                    let after = self.contents(usize::from(window) % self.transports.len());
                    assert_eq!(before, after, "configuration written");
                }
            }
            Op::Steps { window, count } => {
                let steps = [
                    (STATUS, 0),
                    (STATUS, 1),
                    (STATUS, 3),
                    (0x24, 1),
                    (0x20, 1),
                    (STATUS, 11),
                    (STATUS, 15),
                ];
                for (register, value) in steps.into_iter().take(count.into()) {
                    self.write(window, register, &u32::to_le_bytes(value));
                }
            }
            Op::Queue { window, index, size, places } => self.queue(window, index, size, places),
            Op::Memory { address, value } => {
                let address = u64::from(address) % (MEMORY - 8);
                self.memory.write_obj(value, GuestAddress(address)).unwrap();
            }
            Op::Step => virtio::fuzzing::step(),
        }
    }

    fn queue(&mut self, window: u8, index: u8, size: u16, places: [u32; 3]) {
        let [table, driver, device] = places;
        let values = [
            (0x30, index.into()),
            (0x38, size.into()),
            (0x80, table),
            (0x84, 0),
            (0x90, driver),
            (0x94, 0),
            (0xa0, device),
            (0xa4, 0),
            (0x44, 1),
        ];
        for (register, value) in values {
            self.write(window, register, &u32::to_le_bytes(value));
        }
        let shadow = self.shadows.window(usize::from(window) % self.transports.len());
        let (ready, most) = (shadow.read(0x44) == 1, shadow.read(0x34));
        let status = shadow.read(STATUS);
        // Whoever had set it up before, it can't be changed.
        let fresh = status & (FEATURES_OK | DRIVER_OK) == FEATURES_OK;
        if ready && fresh {
            assert!(u32::from(index) < 2 && most > 0, "queue {index} of a device without it");
        }
        assert!(!ready || status & FEATURES_OK != 0, "a queue is ready before the features are");
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let mut windows = Windows::new(&input.consoles);
    for op in input.ops {
        windows.apply(op);
    }
}
