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
        ThreadKind::Worker(WorkerKind::Net) => filters::NET,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use seccompiler::sock_filter;

    use super::*;

    #[test]
    fn every_filter_ends_in_a_verdict() {
        for filter in [filters::VCPU, filters::RNG, filters::CONTROL] {
            // BPF_RET | BPF_K
            assert_eq!(filter.last().unwrap().code, 0x06);
        }
        assert!(filters::CONTROL.len() > filters::VCPU.len());
    }

    /// Whether `filter` allows a call, by running its program (`Documentation/networking/filter`).
    fn allows(filter: &[sock_filter], call: libc::c_long, args: [u32; 3]) -> bool {
        // struct seccomp_data: number, architecture, instruction pointer, arguments.
        let mut data = [0_u32; 16];
        (data[0], data[1]) = (u32::try_from(call).unwrap(), 0xc000_003e);
        for (index, arg) in args.into_iter().enumerate() {
            data[4 + 2 * index] = arg;
        }
        let (mut accumulator, mut next) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = filter[next];
            let jump = |taken| usize::from(if taken { jt } else { jf });
            next += 1 + match code {
                0x05 => k as usize,
                0x15 => jump(accumulator == k),
                0x25 => jump(accumulator > k),
                0x35 => jump(accumulator >= k),
                _ => 0,
            };
            match code {
                0x06 => return k == libc::SECCOMP_RET_ALLOW,
                0x20 => accumulator = data[k as usize / 4],
                0x54 => accumulator &= k,
                0x05 | 0x15 | 0x25 | 0x35 => {}
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// A VMM is root in the host's pid namespace: its signals would reach the host's processes.
    #[test]
    fn no_thread_of_the_guest_can_signal_anybody() {
        use filters::{BLOCK, CONSOLE, CONTROL, FS, NET, RNG, VCPU, VSOCK};
        for filter in [VCPU, RNG, BLOCK, VSOCK, FS, CONSOLE, NET] {
            assert!(allows(filter, libc::SYS_close, [3, 0, 0]));
            for call in [libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill] {
                assert!((0..=64).all(|signal| !allows(filter, call, [1, 1, signal])));
            }
        }
        assert!(allows(CONTROL, libc::SYS_tgkill, [1, 1, 34]));
        assert!(!allows(CONTROL, libc::SYS_tgkill, [1, 1, 9]));
        for filter in [VCPU, RNG, BLOCK, VSOCK, FS, CONSOLE, NET, CONTROL] {
            // F_SETOWN, F_SETSIG, F_SETOWN_EX: any signal, sent on input and output.
            assert!([8, 10, 15].iter().all(|&way| !allows(filter, libc::SYS_fcntl, [3, way, 1])));
        }
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
    fn control_thread_can_make_a_network_device_of_anything() {
        let thread = std::thread::spawn(|| {
            let file = tempfile::tempfile().unwrap();
            install(ThreadKind::Control).unwrap();
            let refused = crate::devices::tap::check(&file).is_err();
            let calls = crate::devices::tap::CALLS;
            refused
                && (calls.set_offloads)(&file, 0).is_err()
                && (calls.set_queue)(&file, false).is_err()
                && (calls.set_backend)(&file, 0, None).is_err()
        });
        assert!(thread.join().unwrap());
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
