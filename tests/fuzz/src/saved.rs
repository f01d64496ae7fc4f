//! The state file of a saved machine, and devices that go on from what it says.
//!
//! Checked besides panics:
//! - Texts in errors are short and do nothing to a terminal.
//! - A state that was understood is the same when it is written and read again.
//! - A device that goes on shows a status that a driver can reach, with what its registers say.
//! - It takes any writes after that, and a reset that makes it as new.
//! - No allocation is larger than a few inputs.

use std::fs::File;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use virtio::device::Device;
use virtio::mmio::{MmioTransport, Shadows, TransportState};
use virtio::{blk, console, rng};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_api::{MachineConfig, RawMachineConfig};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::guest::{memory, spawner};
use crate::{hostile, limits};

/// Most bytes of one allocation.
const LARGEST: usize = 1 << 20;

const STATUS: u64 = 0x70;
const READY: u64 = 0x44;
const INTERRUPTS: u64 = 0x60;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// What is in the guest's memory, again and again.
    filling: [u64; 2],
    writes: Vec<(u8, u32)>,
    kind: Kind,
    bytes: &'a [u8],
}

#[derive(Debug, Arbitrary)]
enum Kind {
    /// The bytes are a file.
    File,
    /// The bytes are what a file has whose digest is right.
    Content,
    /// The bytes are the state of one device.
    Device,
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let states = limits::within(LARGEST, || match input.kind {
        Kind::File => file(input.bytes),
        Kind::Content => {
            vmm::fuzzing::sealed(input.bytes).map(|bytes| file(&bytes)).unwrap_or_default()
        }
        Kind::Device => postcard::from_bytes(input.bytes).into_iter().collect(),
    });
    let memory = memory();
    let filling = input.filling.map(u64::to_le_bytes).concat();
    memory.write_slice(&filling.repeat(8192), GuestAddress(0)).unwrap();
    states.iter().for_each(|state| go_on(state, &memory, &input.writes));
}

/// The states of the devices of a file, which is checked as a whole.
fn file(bytes: &[u8]) -> Vec<TransportState> {
    let devices = match vmm::fuzzing::devices(bytes) {
        Ok(devices) => devices,
        Err(text) => {
            hostile::check(&text);
            return Vec::new();
        }
    };
    let written = vmm::fuzzing::rewritten(bytes).unwrap();
    assert!(vmm::fuzzing::devices(&written).unwrap() == devices, "devices change");
    assert!(vmm::fuzzing::rewritten(&written).unwrap() == written, "the state changes");
    let texts = vmm::fuzzing::refusals(bytes, &shape()).unwrap();
    texts.iter().for_each(|text| hostile::check(text));
    devices.into_iter().map(|(_, state)| state).collect()
}

fn shape() -> MachineConfig {
    let (vcpus, memory_mib, early_serial) = (1, 256, false);
    let extra_cmdline = String::new();
    RawMachineConfig { vcpus, memory_mib, extra_cmdline, early_serial }.try_into().unwrap()
}

fn device(device_id: u32) -> Box<dyn Device> {
    let spawner = spawner();
    match device_id {
        2 => {
            let disk = tempfile();
            disk.set_len(1 << 16).unwrap();
            Box::new(blk::device(&spawner, disk, true, "disk").unwrap())
        }
        3 => {
            let output = File::options().write(true).open("/dev/null").unwrap();
            Box::new(console::device(&spawner, output, Arc::default()).unwrap())
        }
        _ => Box::new(rng::device(&spawner).unwrap()),
    }
}

fn tempfile() -> File {
    let file = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC);
    file.unwrap().into()
}

/// A device goes on from a state, or says why not.
fn go_on(state: &TransportState, memory: &GuestMemoryMmap, writes: &[(u8, u32)]) {
    let line = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
    let shadow = Shadows::new(1).window(0);
    let restored = MmioTransport::restore(
        device(state.device_id()),
        memory.clone(),
        line,
        shadow.clone(),
        state,
    );
    let mut transport = match restored {
        Ok(transport) => transport,
        Err(error) => return hostile::check(&error.to_string()),
    };
    let status = shadow.read(STATUS);
    let bits = [1, 2, 8, 4].map(|bit| status & bit != 0);
    assert!(status & !0x8f == 0, "status {status:#x}");
    assert!(bits.windows(2).all(|pair| pair[0] || !pair[1]), "status {status:#x}");
    assert!(shadow.read(INTERRUPTS) & 1 == u32::from(bits[3]), "used buffers show");
    assert!(shadow.read(READY) == 0 || bits[2], "a queue is ready before features are agreed on");
    transport.publish();
    virtio::fuzzing::step();
    for (register, value) in writes {
        transport.write(u64::from(*register) * 4, &value.to_le_bytes());
        virtio::fuzzing::step();
    }
    if let Ok(parked) = transport.park() {
        assert!(parked.device_id() == state.device_id(), "it is another device now");
        transport.unpark(&parked);
        virtio::fuzzing::step();
    }
    transport.write(STATUS, &[0; 4]);
    let (status, interrupts) = (shadow.read(STATUS), shadow.read(INTERRUPTS));
    assert!((status, interrupts) == (0, 0), "after a reset: {status:#x} {interrupts:#x}");
}
