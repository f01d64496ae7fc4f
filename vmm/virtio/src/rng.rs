//! The entropy device (§5.4): fills the guest's buffers with the host's random bytes.

use rustix::rand::{GetRandomFlags, getrandom};
use vm_memory::GuestMemoryMmap;

use crate::device::{Description, DeviceError};
use crate::queue::Chain;
use crate::worker::{Active, Backend, Spawner, ThreadKind, Worker, WorkerError};

/// The thread: reads random bytes.
pub const THREAD: ThreadKind =
    ThreadKind { name: "vio-rng", stack: 64 << 10, acts_for_users: false };

/// Device type (§5.4.1).
const DEVICE_ID: u32 = 4;

/// Size of the only queue. Linux has one request outstanding.
const QUEUE_SIZE: u16 = 16;

/// Most bytes that one request gets. The attack: requests for gigabytes keep a host CPU busy
/// in the random number generator. The driver sees a short answer, which is allowed, and asks
/// again; between requests the thread can be stopped.
const MAX_REQUEST: usize = 64 << 10;

/// Bytes fetched from the host at once.
const CHUNK: usize = 1024;

/// An entropy device.
///
/// # Errors
/// [`DeviceError::Host`] if the thread can't be made.
pub fn device(spawner: &Spawner) -> Result<Worker, DeviceError> {
    let description = Description {
        device_id: DEVICE_ID,
        features: 0,
        queue_sizes: vec![QUEUE_SIZE],
        config: Vec::new(),
        // Requests are served at once, so that none is under way between two.
        unsavable: None,
    };
    Worker::spawn(spawner, THREAD, description, RngBackend)
}

struct RngBackend;

impl Backend for RngBackend {
    fn kicked(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError> {
        active.drain(queue, fill)
    }
}

/// Fills the writable half of a chain and says with how many bytes.
fn fill(memory: &GuestMemoryMmap, chain: &Chain) -> usize {
    let wanted = chain.writable.len().min(MAX_REQUEST);
    let mut done = 0;
    let mut bytes = [0; CHUNK];
    while done < wanted {
        let part = &mut bytes[..CHUNK.min(wanted - done)];
        let Ok(got) = getrandom(&mut *part, GetRandomFlags::empty()) else {
            break;
        };
        if chain.writable.write_at(memory, done, &part[..got]).is_err() {
            break;
        }
        done += got;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_driver::{Driver, Piece, spawner};

    #[test]
    fn buffers_are_filled() {
        let mut driver = Driver::ready(device(&spawner()).unwrap());
        let (first, second) = (driver.space(40), driver.space(5000));
        assert_eq!(driver.request(0, &[first, second]), 5040);
        let bytes = driver.bytes(second);
        assert!((0..=255).all(|value| bytes.contains(&value)), "not random");
    }

    #[test]
    fn a_request_has_a_limit_and_needs_room() {
        let mut driver = Driver::ready(device(&spawner()).unwrap());
        let space = driver.space(1 << 20);
        assert_eq!(driver.request(0, &[space]), 64 << 10);
        let readable = driver.out(&[0; 64]);
        assert_eq!(driver.request(0, &[readable]), 0);
        let outside = Piece { address: 1 << 40, len: 64, writable: true };
        assert_eq!(driver.request(0, &[outside]), 0);
    }
}
