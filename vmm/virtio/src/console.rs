//! The console device (§5.3), output only: the guest's `hvc0`.
//!
//! Output is best effort. A console is for diagnosis. Neither a reader that is too slow nor a guest
//! that logs too much may stop the guest or grow the host's memory. What can't be written at once
//! is dropped and counted.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vm_memory::GuestMemoryMmap;

use crate::device::{Description, DeviceError};
use crate::queue::Chain;
use crate::worker::{Active, Backend, Spawner, ThreadKind, Worker, WorkerError};

/// The thread: writes to one descriptor.
pub const THREAD: ThreadKind =
    ThreadKind { name: "vio-console", stack: 64 << 10, acts_for_users: false };

/// Device type (§5.3.1).
const DEVICE_ID: u32 = 3;

/// Size of both queues.
const QUEUE_SIZE: u16 = 64;

/// Position of the queue with the guest's output (§5.3.2); the other one would bring input.
const TRANSMIT: usize = 1;

/// Bytes written to the host at once.
const CHUNK: usize = 4096;

/// Most bytes written of one request; the rest is dropped. The attack: a request of 4 GiB keeps
/// the thread busy and the device from being reset. Linux sends less than a page at once.
const MAX_REQUEST: usize = 64 << 10;

/// A console that writes to `output`, which is made non-blocking (for everyone that shares the
/// open file, so a pipe of its own is best). Adds the number of bytes dropped to `dropped`.
///
/// # Errors
/// [`DeviceError::Host`] if `output` can't be made non-blocking or the thread not be made.
pub fn device(
    spawner: &Spawner,
    output: File,
    dropped: Arc<AtomicU64>,
) -> Result<Worker, DeviceError> {
    fcntl_getfl(&output).and_then(|flags| fcntl_setfl(&output, flags | OFlags::NONBLOCK)).map_err(
        |error| DeviceError::Host {
            device: THREAD.name,
            action: "make output non-blocking",
            source: error.into(),
        },
    )?;
    let description = Description {
        device_id: DEVICE_ID,
        features: 0,
        queue_sizes: vec![QUEUE_SIZE; 2],
        config: Vec::new(),
        // Requests are served at once, so that none is under way between two.
        unsavable: None,
    };
    Worker::spawn(spawner, THREAD, description, ConsoleBackend { output, dropped })
}

struct ConsoleBackend {
    output: File,
    dropped: Arc<AtomicU64>,
}

impl Drop for ConsoleBackend {
    /// Tells who looks for a line that is missing.
    fn drop(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            log::warn!("console: {dropped} bytes could not be written at once and are lost");
        }
    }
}

impl Backend for ConsoleBackend {
    fn kicked(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError> {
        // Buffers for input stay with the device: there is none.
        if queue == TRANSMIT { self.drain(active) } else { Ok(()) }
    }

    /// A kernel that dies has no time to wait for its last words to be read. Bounded: at most as
    /// many requests as the queue is long, each of at most [`MAX_REQUEST`], none waited for.
    fn ending(&mut self, active: &mut Active) -> Result<(), WorkerError> {
        self.drain(active)
    }
}

impl ConsoleBackend {
    fn drain(&mut self, active: &mut Active) -> Result<(), WorkerError> {
        active.drain(TRANSMIT, |memory, chain| {
            let written = self.write(memory, chain);
            let lost = chain.readable.len() - written;
            self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
            0
        })
    }

    /// Writes as much of a chain as goes without waiting and says how much that was.
    fn write(&mut self, memory: &GuestMemoryMmap, chain: &Chain) -> usize {
        let wanted = chain.readable.len().min(MAX_REQUEST);
        let mut done = 0;
        let mut bytes = [0; CHUNK];
        while done < wanted {
            let part = &mut bytes[..CHUNK.min(wanted - done)];
            if chain.readable.read_at(memory, done, part).is_err() {
                break;
            }
            match self.output.write(part) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_driver::{Driver, spawner};
    use std::io::Read;

    fn console() -> (Driver, File, Arc<AtomicU64>) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let dropped = Arc::default();
        let console = device(&spawner(), File::from(writer), Arc::clone(&dropped)).unwrap();
        (Driver::ready(console), File::from(reader), dropped)
    }

    #[test]
    fn output_arrives_in_order() {
        let (mut driver, mut reader, dropped) = console();
        for line in ["hello ", "world\n"] {
            let piece = driver.out(line.as_bytes());
            assert_eq!(driver.request(TRANSMIT, &[piece]), 0);
        }
        let mut bytes = [0; 12];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello world\n");
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn last_words_are_read_before_the_end_and_not_without_bound() {
        let (mut driver, mut reader, dropped) = console();
        let words = driver.out(b"last words\n");
        driver.submit_silently(TRANSMIT, &[words]);
        // More than the pipe holds: what can't be written at once is lost.
        let flood = driver.out(&[b'x'; MAX_REQUEST]);
        for _ in 0..3 {
            driver.submit_silently(TRANSMIT, &[flood]);
        }
        drop(driver);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("last words\nx"), "{} bytes", text.len());
        let lost = usize::try_from(dropped.load(Ordering::Relaxed)).unwrap();
        assert_eq!(text.len() + lost, 11 + 3 * MAX_REQUEST);
        assert!(lost > 0);
    }

    #[test]
    fn a_full_pipe_drops_and_counts() {
        let (mut driver, mut reader, dropped) = console();
        let piece = driver.out(&[b'x'; 10_000]);
        for _ in 0..20 {
            driver.request(TRANSMIT, &[piece]);
        }
        let lost = dropped.load(Ordering::Relaxed);
        let held = 200_000 - usize::try_from(lost).unwrap();
        assert!(held > 0 && held < 200_000);
        let mut bytes = vec![0; held];
        reader.read_exact(&mut bytes).unwrap();
        driver.request(TRANSMIT, &[piece]);
        assert_eq!(dropped.load(Ordering::Relaxed), lost);
    }

    #[test]
    fn a_vanished_reader_is_no_error() {
        let (mut driver, reader, dropped) = console();
        drop(reader);
        let piece = driver.out(b"lost");
        driver.request(TRANSMIT, &[piece]);
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
        let input = driver.space(16);
        driver.submit(0, &[input]);
        driver.request(TRANSMIT, &[piece]);
        assert!(driver.poll_used(0).is_none());
    }
}
