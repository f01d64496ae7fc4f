//! The host's side of a network device: one queue of a tap.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vm_memory::VolatileSlice;

/// Requests to a tap, and to vhost about one, for which there is no safe call; this crate has no unsafe code.
#[derive(Debug, Clone, Copy)]
pub struct TapCalls {
    /// Sets what the tap's reader takes, `TUN_F_*` (`TUNSETOFFLOAD`), for all queues.
    pub set_offloads: fn(&File, u32) -> io::Result<()>,
    /// Puts this queue of its tap to use, or out of it (`TUNSETQUEUE`). A queue in use gets its
    /// part of the packets, whether it is read or not.
    pub set_queue: fn(&File, bool) -> io::Result<()>,
    /// Gives a queue of a vhost descriptor its tap, or takes it away (`VHOST_NET_SET_BACKEND`).
    pub set_backend: fn(&File, u32, Option<&File>) -> io::Result<()>,
}

/// One queue of a tap.
#[derive(Debug)]
pub(super) struct Tap {
    file: File,
    calls: TapCalls,
    in_use: bool,
}

impl Tap {
    /// A queue that is in use, as it is from its making on.
    pub(super) fn new(file: File, calls: TapCalls) -> io::Result<Self> {
        let flags = fcntl_getfl(&file)?;
        fcntl_setfl(&file, flags | OFlags::NONBLOCK)?;
        Ok(Self { file, calls, in_use: true })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub(super) fn in_use(&self) -> bool {
        self.in_use
    }

    /// Sets the offloads of the whole tap; its queue must be in use.
    pub(super) fn set_offloads(&self, offloads: u32) -> io::Result<()> {
        (self.calls.set_offloads)(&self.file, offloads)
    }

    pub(super) fn set_in_use(&mut self, in_use: bool) -> io::Result<()> {
        if self.in_use != in_use {
            (self.calls.set_queue)(&self.file, in_use)?;
            self.in_use = in_use;
        }
        Ok(())
    }

    /// Reads the next packet with its header into guest memory; what does not fit is cut off.
    /// `None`: there is none, or none that can be had; 0 for one that is lost, behind which there
    /// may be others.
    pub(super) fn read(&mut self, slices: &[VolatileSlice<'_>]) -> Option<usize> {
        transfer(|| guest_io::read(&self.file, slices))
    }

    /// Writes a packet with its header. The host drops what it can't use or take now, as any
    /// network may.
    pub(super) fn write(&mut self, slices: &[VolatileSlice<'_>]) {
        transfer(|| guest_io::write(&self.file, slices));
    }
}

fn transfer(mut step: impl FnMut() -> io::Result<usize>) -> Option<usize> {
    loop {
        match step() {
            Ok(len) => return Some(len),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            // A tap that is down or gone, or (only then is it taken) a packet that makes no sense.
            Err(error) => {
                guest_warn!("net: packet lost: {error}");
                return (error.kind() == ErrorKind::InvalidInput).then_some(0);
            }
        }
    }
}
