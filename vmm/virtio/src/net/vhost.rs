//! Data queues served by the host's kernel (vhost-net).
//!
//! The kernel reads kicks and moves packets between the tap and the guest's memory by itself. It
//! raises the device's interrupt line by its event descriptor. Its checks of descriptors are its
//! own. It lets go of everything when a queue's tap is taken away.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use vhost::vhost_kern::VhostKernBackend;
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_queue::QueueT;
use vm_memory::{Address, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use super::bits::{F_INDIRECT_DESC, F_MRG_RXBUF};
use super::tap::TapCalls;
use crate::device::ActiveQueue;
use crate::mmio::{VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1};

/// Features about which the kernel must know, because they change what is in the queues.
const SHARED: u64 = F_MRG_RXBUF | F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;

/// The kernel's server for one pair of queues.
#[derive(Debug)]
pub(super) struct Vhost {
    file: File,
    calls: TapCalls,
    running: bool,
}

impl Vhost {
    /// Takes over `file`, a descriptor of `/dev/vhost-net` that nobody has used.
    pub(super) fn new(file: File, calls: TapCalls) -> io::Result<Self> {
        let memory = GuestMemoryMmap::default();
        Requests { file: &file, memory: &memory }.set_owner().map_err(host)?;
        Ok(Self { file, calls, running: false })
    }

    /// Those of `features` that can be offered with this kernel.
    pub(super) fn offered(&self, features: u64) -> io::Result<u64> {
        let memory = GuestMemoryMmap::default();
        let known = Requests { file: &self.file, memory: &memory }.get_features().map_err(host)?;
        if known & VIRTIO_F_VERSION_1 == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(features & (known | !SHARED))
    }

    /// Tells the kernel where a pair's queues are and whom to wake. It does not touch them
    /// before [`Vhost::run`].
    pub(super) fn set_up(
        &self,
        memory: &GuestMemoryMmap,
        features: u64,
        queues: &[ActiveQueue],
        line: &EventFd,
    ) -> io::Result<()> {
        let requests = Requests { file: &self.file, memory };
        requests.set_features(features & SHARED).map_err(host)?;
        let regions: Vec<_> = memory.iter().map(region).collect();
        requests.set_mem_table(&regions).map_err(host)?;
        for (index, ActiveQueue { queue, kick, .. }) in queues.iter().enumerate() {
            let places = VringConfigData {
                queue_max_size: queue.max_size(),
                queue_size: queue.size(),
                flags: 0,
                desc_table_addr: queue.desc_table(),
                used_ring_addr: queue.used_ring(),
                avail_ring_addr: queue.avail_ring(),
                log_addr: None,
            };
            requests.set_vring_num(index, queue.size()).map_err(host)?;
            requests.set_vring_base(index, 0).map_err(host)?;
            requests.set_vring_addr(index, &places).map_err(host)?;
            requests.set_vring_call(index, line).map_err(host)?;
            requests.set_vring_kick(index, kick).map_err(host)?;
        }
        Ok(())
    }

    /// Lets the kernel serve the queues on `tap`, if it does not yet.
    pub(super) fn run(&mut self, tap: &File) -> io::Result<()> {
        if !self.running {
            // Set first, so that a failure half way is undone as well.
            self.running = true;
            for queue in 0..2 {
                (self.calls.set_backend)(&self.file, queue, Some(tap))?;
            }
        }
        Ok(())
    }

    /// Returns when the kernel has finished what it has begun and touches the guest's memory
    /// no more.
    pub(super) fn stop(&mut self) {
        if std::mem::take(&mut self.running) {
            let stopped = [0, 1].map(|queue| (self.calls.set_backend)(&self.file, queue, None));
            for error in stopped.into_iter().filter_map(Result::err) {
                guest_warn!("net: stop vhost: {error}");
            }
        }
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A region of guest memory as the kernel wants it; the descriptor is for other servers.
fn region(region: &vm_memory::GuestRegionMmap) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: region.start_addr().raw_value(),
        memory_size: region.len(),
        userspace_addr: region.as_ptr() as u64,
        mmap_offset: 0,
        mmap_handle: -1,
    }
}

/// The library's requests to a descriptor, with the memory to which addresses refer.
struct Requests<'a> {
    file: &'a File,
    memory: &'a GuestMemoryMmap,
}

impl AsRawFd for Requests<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl<'a> VhostKernBackend for Requests<'a> {
    type AS = &'a GuestMemoryMmap;

    fn mem(&self) -> &Self::AS {
        &self.memory
    }
}

fn host(error: vhost::Error) -> io::Error {
    match error {
        vhost::Error::IoctlError(error) => error,
        other => io::Error::other(other),
    }
}
