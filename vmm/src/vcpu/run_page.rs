//! The page that a vCPU shares with KVM (`struct kvm_run`). It is mapped a second time so that
//! another thread can ask the vCPU to leave the guest.
#![allow(unsafe_code, reason = "maps KVM's shared page and reads a union in it")]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The part of the page that is used: its first fields.
const LENGTH: usize = 4096;

/// A mapping of a vCPU's page.
#[derive(Debug)]
pub(super) struct RunPage(NonNull<u8>);

// SAFETY: the mapping belongs to this value alone and is only accessed by an atomic.
unsafe impl Send for RunPage {}

// SAFETY: likewise.
unsafe impl Sync for RunPage {}

impl RunPage {
    /// Maps the page of `vcpu`. The mapping outlives the vCPU's own.
    ///
    /// # Errors
    /// If the host refuses.
    pub(super) fn map(vcpu: &VcpuFd) -> io::Result<Self> {
        // SAFETY: the descriptor is open as long as `vcpu`, that is during this function.
        let fd = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let page = unsafe { rustix::mm::mmap(std::ptr::null_mut(), LENGTH, access, flags, fd, 0) }?;
        NonNull::new(page.cast()).map(Self).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Makes the vCPU's next entry into the guest fail with `EINTR`, until
    /// [`RunPage::forget_exit`].
    pub(super) fn request_exit(&self) {
        self.immediate_exit().store(1, Ordering::SeqCst);
    }

    /// Lets the vCPU enter the guest again.
    pub(super) fn forget_exit(&self) {
        self.immediate_exit().store(0, Ordering::SeqCst);
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        let offset = std::mem::offset_of!(kvm_run, immediate_exit);
        // SAFETY: the field lies within the page.
        let flag = unsafe { self.0.add(offset) };
        // SAFETY: one byte is always aligned; the page stays mapped as long as `self`; all of this
        // process writes to it by this function, and the kernel only reads it.
        unsafe { AtomicU8::from_ptr(flag.as_ptr()) }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it is left.
        let unmapped = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), LENGTH) };
        debug_assert!(unmapped.is_ok());
    }
}

/// The detail of an internal error on which `vcpu` has just stopped (KVM's api.rst,
/// `KVM_EXIT_INTERNAL_ERROR`).
pub(super) fn suberror(vcpu: &mut VcpuFd) -> u32 {
    let run = vcpu.get_kvm_run();
    // SAFETY: the exit reason says that this is the valid member; any bits are a valid u32.
    unsafe { run.__bindgen_anon_1.internal.suberror }
}
