//! The system calls that each kind of thread may make.
//!
//! The filters are data, in `vmm/seccomp/`, and compiled at build time; they are the same in
//! debug and release builds and can't be switched off. A call outside of its thread's filter
//! kills the process: the shim then sees a machine that was killed.

mod filters {
    use seccompiler::sock_filter;

    include!(concat!(env!("OUT_DIR"), "/filters.rs"));
}

use virtio::worker::ThreadKind as WorkerKind;

/// Kinds of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThreadKind {
    /// The first thread, which serves the control socket and makes all others.
    Control,
    /// Runs a vCPU.
    Vcpu,
    /// Serves a device.
    Worker(WorkerKind),
}

/// Restricts the calling thread, and threads that it makes from now on, for good.
///
/// # Errors
/// If the kernel has no seccomp filters.
pub(crate) fn install(kind: ThreadKind) -> Result<(), seccompiler::Error> {
    if kind == ThreadKind::Control {
        seccompiler::apply_filter(filters::NO_CLONE3)?;
    }
    seccompiler::apply_filter(match kind {
        ThreadKind::Control => filters::CONTROL,
        ThreadKind::Vcpu => filters::VCPU,
        ThreadKind::Worker(WorkerKind::Rng) => filters::RNG,
        ThreadKind::Worker(WorkerKind::Block) => filters::BLOCK,
        ThreadKind::Worker(WorkerKind::Vsock) => filters::VSOCK,
        ThreadKind::Worker(WorkerKind::Fs) => filters::FS,
        ThreadKind::Worker(WorkerKind::Console) => filters::CONSOLE,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn every_filter_ends_in_a_verdict() {
        for filter in [filters::VCPU, filters::RNG, filters::CONTROL] {
            // BPF_RET | BPF_K
            assert_eq!(filter.last().unwrap().code, 0x06);
        }
        assert!(filters::CONTROL.len() > filters::VCPU.len());
    }

    #[test]
    fn control_thread_can_make_threads() {
        let thread = std::thread::spawn(|| {
            install(ThreadKind::Control).unwrap();
            std::thread::spawn(|| install(ThreadKind::Worker(WorkerKind::Rng)).is_ok()).join()
        });
        assert!(thread.join().unwrap().unwrap());
    }

    #[test]
    fn control_thread_can_examine_a_block_device() {
        let thread = std::thread::spawn(|| {
            let file = tempfile::tempfile().unwrap();
            install(ThreadKind::Control).unwrap();
            rustix::fs::ioctl_blksszget(&file).unwrap_err()
        });
        // A call that is not allowed ends the process and not just the test.
        assert_eq!(thread.join().unwrap(), rustix::io::Errno::NOTTY);
    }

    #[test]
    fn thread_can_still_allocate_lock_and_end() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            install(ThreadKind::Vcpu).unwrap();
            sender.send(vec![1_u8; 1 << 20]).unwrap();
            let mut byte = [0];
            std::io::empty().read(&mut byte).unwrap()
        });
        assert_eq!(receiver.recv().unwrap().len(), 1 << 20);
        assert_eq!(thread.join().unwrap(), 0);
    }
}
