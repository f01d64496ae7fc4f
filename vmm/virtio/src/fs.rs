//! The shared directory (§5.11): a directory tree of the host, served by the FUSE protocol.
//!
//! The protocol and the file system are a library's (`fuse-backend-rs`); this module moves
//! requests between its server and the queues. All requests, those of the urgent queue too,
//! are served one after another on the device's thread, which changes its own effective user
//! and group for those that create something.
//!
//! What the process must offer, because the library works that way:
//! - `/proc/self/fd` and `/proc/self/mountinfo` when the device is made; `/proc/self/fd` also
//!   later, by that path, if extended attributes are to work;
//! - real and saved user 0, so that effective capabilities come back with effective user 0;
//! - capabilities `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`, `SETUID`, `SETGID`, `SETFCAP`
//!   and `MKNOD`, as far as the guest is to do what needs them;
//! - a limit of descriptors that allows as many inodes as the guest may have in its cache.

mod ownership;
mod share;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use fuse_backend_rs::api::filesystem::FileSystem;
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::transport::{Reader, VirtioFsWriter};
use vm_memory::GuestMemoryMmap;

use crate::device::{Description, DeviceError};
use crate::mmio::VIRTIO_F_EVENT_IDX;
use crate::queue::{Descriptors, collect};
use crate::worker::{Active, Backend, Spawner, ThreadKind, Worker, WorkerError};
use share::Share;

/// The thread: makes all file system calls. Their library keeps path buffers on its stack.
pub const THREAD: ThreadKind =
    ThreadKind { name: "vio-fs", stack: 256 << 10, acts_for_users: true };

/// Device type (§5.11.1).
const DEVICE_ID: u32 = 26;

/// Sizes of the urgent queue and the only request queue (§5.11.2). A request of 1 MiB, the
/// largest that the library knows, takes 256 pages and a few headers.
const QUEUE_SIZES: [u16; 2] = [64, 512];

/// Most bytes of a request, and most of its answer; twice what Linux has. The attack: the
/// library allocates what an `ioctl` claims to bring along, and moves what a read or a write
/// asks for, as far as the buffers go: up to 4 GiB, for which few pages used many times do.
const MAX_REQUEST: usize = 2 << 20;

/// Indirect descriptor tables (§2.7.5.3): more than one large request at a time.
const VIRTIO_F_INDIRECT_DESC: u64 = 1 << 28;

/// Bytes of the name in the configuration space (§5.11.4).
const TAG_BYTES: usize = 36;

/// What a shared directory needs.
#[derive(Debug, Clone)]
pub struct FsConfig {
    /// Name by which the guest mounts it, 1 to 36 bytes; more are cut off.
    pub tag: String,
    /// The directory, as the process sees it; valid UTF-8.
    pub root: PathBuf,
    /// Whether extended attributes are served.
    pub xattr: bool,
}

/// A device that serves `config.root`. Clears the process's umask.
///
/// # Errors
/// [`DeviceError::Host`] if the directory or `/proc/self` can't be opened, or the thread
/// not be made.
pub fn device(spawner: &Spawner, config: &FsConfig) -> Result<Worker, DeviceError> {
    let share = Share::new(&config.root, config.xattr).map_err(|source| DeviceError::Host {
        device: THREAD.name,
        action: "open shared directory",
        source,
    })?;
    let mut space = vec![0; TAG_BYTES];
    for (to, from) in space.iter_mut().zip(config.tag.bytes()) {
        *to = from;
    }
    space.extend(1_u32.to_le_bytes());
    let description = Description {
        device_id: DEVICE_ID,
        features: VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC,
        queue_sizes: QUEUE_SIZES.to_vec(),
        config: space,
    };
    let share = Arc::new(share);
    let backend = FsBackend { server: Server::new(Arc::clone(&share)), share };
    Worker::spawn(spawner, THREAD, description, backend)
}

struct FsBackend {
    server: Server<Arc<Share>>,
    share: Arc<Share>,
}

impl Backend for FsBackend {
    fn kicked(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError> {
        active.drain_raw(queue, |memory, request| self.serve(memory, request))
    }

    fn stop(&mut self) {
        // Closes all that the driver had open.
        self.share.destroy();
    }
}

impl FsBackend {
    /// Serves one request and says how long the answer is; some have none.
    fn serve(&self, memory: &GuestMemoryMmap, request: Descriptors<'_>) -> usize {
        match collect(request.clone(), memory) {
            Ok(chain) if chain.readable.len().max(chain.writable.len()) <= MAX_REQUEST => {}
            Ok(_) => {
                guest_warn!("fs: request dropped: more than {MAX_REQUEST} bytes");
                return 0;
            }
            Err(error) => {
                guest_warn!("fs: request dropped: {error}");
                return 0;
            }
        }
        let parts = Reader::from_descriptor_chain(memory, request.clone())
            .and_then(|reader| Ok((reader, VirtioFsWriter::new(memory, request)?)));
        let (reader, writer) = match parts {
            Ok(parts) => parts,
            Err(error) => {
                guest_warn!("fs: request dropped: {error}");
                return 0;
            }
        };
        match self.server.handle_message(reader, writer.into(), None, None) {
            Ok(len) => len,
            Err(error) => {
                guest_warn!("fs: request failed: {error}");
                0
            }
        }
    }
}
