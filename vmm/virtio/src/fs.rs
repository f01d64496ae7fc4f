//! The shared directory (§5.11): a directory tree of the host, served by the FUSE protocol.
//!
//! The protocol and the file system are a library's (`virtiofsd`); this module moves requests
//! between its server and the queues. All requests, those of the urgent queue too, are served one
//! after another on the device's thread. For requests that create something, the thread changes its
//! own effective user and group. For others it changes the process's umask and working directory.
//!
//! The process must offer this, because the library works that way:
//! - `/proc/self/fd` and `/proc/self/mountinfo` when the device is made;
//! - real and saved user 0, so that effective capabilities come back with effective user 0;
//! - capabilities `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`, `SETUID`, `SETGID`, `SETFCAP` and
//!   `MKNOD`, as far as the guest is to do what needs them;
//! - no other thread that needs the umask or a relative path.

mod handle;
mod listing;
mod live;
mod mounts;
mod nameless;
mod ownership;
mod privilege;
mod requests;
mod share;

#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use guest_io::View;
use virtiofsd::descriptor_utils::{Error, Reader, Writer};
use virtiofsd::filesystem::{Context, FileSystem as _};
use virtiofsd::fuse::{
    BatchForgetIn, CreateIn, EntryOut, ForgetIn, ForgetOne, InHeader, Opcode, OpenOut, OutHeader,
};
use virtiofsd::server::Server;
use vm_memory::ByteValued;

use crate::device::{Description, DeviceError};
use crate::mmio::VIRTIO_F_EVENT_IDX;
use crate::queue::Descriptors;
use crate::worker::{Active, Backend, Spawner, ThreadKind, Worker, WorkerError};
use listing::Listing;
use share::Share;

/// The thread: makes all file system calls. Their library keeps path buffers on its stack.
pub const THREAD: ThreadKind =
    ThreadKind { name: "vio-fs", stack: 256 << 10, acts_for_users: true };

/// Device type (§5.11.1).
const DEVICE_ID: u32 = 26;

/// Sizes of the urgent queue and the only request queue (§5.11.2). A request of 1 MiB, the
/// largest that the library knows, takes 256 pages and a few headers.
const QUEUE_SIZES: [u16; 2] = [64, 512];

/// Most bytes of a request, and most of its answer; twice what Linux has. The attack: reads and
/// writes of 4 GiB, for which few pages used many times do, hold the thread.
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
    /// Most files that the guest may know and have open at a time. Each takes a descriptor and
    /// about 1 KiB of the host. A guest at its limit gets ENFILE, and nobody else is hurt.
    pub max_files: u64,
}

/// A device that serves `config.root`. Clears the process's umask.
///
/// # Errors
/// [`DeviceError::Host`] if the directory or `/proc/self` can't be opened, or the thread
/// not be made.
pub fn device(spawner: &Spawner, config: &FsConfig) -> Result<Worker, DeviceError> {
    let listing = Arc::default();
    let share = Share::new(config, Arc::clone(&listing)).map_err(|source| DeviceError::Host {
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
        unsavable: Some("what its guest has open on the host can't be saved"),
    };
    let backend = FsBackend { server: Server::new(share.clone()), share, listing, view: None };
    Worker::spawn(spawner, THREAD, description, backend)
}

struct FsBackend {
    server: Server<Share>,
    share: Share,
    listing: Arc<Listing>,
    /// The guest's memory, while there is a driver.
    view: Option<Arc<View>>,
}

impl Backend for FsBackend {
    fn start(&mut self, active: &mut Active) -> Result<(), WorkerError> {
        let view = View::new(&active.memory).map_err(WorkerError::host("view guest memory"))?;
        self.view = Some(Arc::new(view));
        Ok(())
    }

    fn kicked(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError> {
        let Some(view) = self.view.clone() else { return Ok(()) };
        active.drain_raw(queue, |_, request| self.serve(&view, request))
    }

    fn stop(&mut self) {
        // Closes all that the driver had open.
        self.server.destroy();
        self.view = None;
    }
}

/// Why a request was given back unserved.
#[derive(Debug, thiserror::Error)]
enum Dropped {
    #[error(transparent)]
    Chain(#[from] Error),
    #[error("no header")]
    Header(#[from] std::io::Error),
    #[error("more than {MAX_REQUEST} bytes")]
    TooLong,
    #[error("no room for an answer")]
    NoRoom,
}

impl FsBackend {
    /// Serves one request and says how long the answer is; some have none.
    fn serve(&self, view: &View, request: Descriptors<'_>) -> usize {
        let (header, reader, writer) = match self.accept(view, request) {
            Ok(parts) => parts,
            Err(error) => {
                guest_warn!("fs: request dropped: {error}");
                return 0;
            }
        };
        let served = match Opcode::try_from(header.opcode) {
            Ok(Opcode::Forget | Opcode::BatchForget) => self.forget(header, reader),
            Ok(Opcode::TmpFile) => self.make_nameless(header, reader, writer),
            _ => {
                let answered = self.server.handle_message(reader, writer, None::<&mut ()>);
                answered.map_err(std::io::Error::other)
            }
        };
        served.unwrap_or_else(|error| {
            guest_warn!("fs: request failed: {error}");
            0
        })
    }

    /// The two halves of a request that is safe to serve. They are private copies of the
    /// descriptors: the guest can't change them any more, and only they are looked at.
    fn accept<'a>(
        &self,
        view: &'a View,
        request: Descriptors<'_>,
    ) -> Result<(InHeader, Reader<'a>, Writer<'a>), Dropped> {
        let reader = Reader::new(view.memory(), request.clone())?;
        let writer = Writer::new(view.memory(), request)?;
        if reader.available_bytes().max(writer.available_bytes()) > MAX_REQUEST {
            return Err(Dropped::TooLong);
        }
        let header: InHeader = reader.clone().read_obj()?;
        let operation = Opcode::try_from(header.opcode);
        let silent = matches!(operation, Ok(Opcode::Forget | Opcode::BatchForget));
        // The library panics where there is no room for the header of an answer.
        if !silent && writer.available_bytes() < size_of::<OutHeader>() {
            return Err(Dropped::NoRoom);
        }
        self.listing.begin(matches!(operation, Ok(Opcode::Readdirplus)));
        Ok((header, reader, writer))
    }

    /// Serves a request that has no answer. The library would read its header again, of which the
    /// guest may have made one with an answer that there is no room for.
    fn forget(&self, header: InHeader, mut reader: Reader<'_>) -> std::io::Result<usize> {
        let _header: InHeader = reader.read_obj()?;
        let context = Context::from(header);
        if matches!(Opcode::try_from(header.opcode), Ok(Opcode::Forget)) {
            let ForgetIn { nlookup } = reader.read_obj()?;
            self.share.forget(context, header.nodeid, nlookup);
            return Ok(0);
        }
        let BatchForgetIn { count, .. } = reader.read_obj()?;
        for _ in 0..count {
            let ForgetOne { nodeid, nlookup } = reader.read_obj()?;
            self.share.forget(context, nodeid, nlookup);
        }
        Ok(0)
    }

    /// Serves the request for a file without a name, which the library has no answer to.
    fn make_nameless(
        &self,
        header: InHeader,
        mut reader: Reader<'_>,
        mut writer: Writer<'_>,
    ) -> std::io::Result<usize> {
        let _header: InHeader = reader.read_obj()?;
        let asked: CreateIn = reader.read_obj()?;
        let context = Context::from(header);
        let (error, body) = match self.share.make_nameless(&context, header.nodeid, asked) {
            Ok(entry) => {
                let open = OpenOut::default();
                (0, [EntryOut::from(entry).as_slice(), open.as_slice()].concat())
            }
            Err(error) => (-error.raw_os_error().unwrap_or(libc::EIO), Vec::new()),
        };
        let len = size_of::<OutHeader>() + body.len();
        let told = u32::try_from(len).unwrap_or(u32::MAX);
        let answer = OutHeader { len: told, error, unique: header.unique };
        writer.write_all(&[answer.as_slice(), &body].concat())?;
        Ok(len)
    }
}
