//! The system calls that each kind of thread may make.
//!
//! The filters are data, in `vmm/seccomp/`, and compiled at build time; they are the same in
//! debug and release builds and can't be switched off. A call outside of its thread's filter
//! kills the process: the shim then sees a machine that was killed.

mod filters {
    use seccompiler::sock_filter;

    include!(concat!(env!("OUT_DIR"), "/filters.rs"));
}

use seccompiler::sock_filter;
use virtio::worker::ThreadKind as WorkerKind;

/// Kinds of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThreadKind {
    /// The first thread, which serves the control socket and makes all others.
    Control {
        /// Whether the machine takes the request to be saved.
        to_be_saved: bool,
    },
    /// Runs a vCPU.
    Vcpu {
        /// Likewise.
        to_be_saved: bool,
    },
    /// Serves a device.
    Worker(WorkerKind),
}

/// Restricts the calling thread, and threads that it makes from now on, for good.
///
/// # Errors
/// If the kernel has no seccomp filters.
pub(crate) fn install(kind: ThreadKind) -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter(match kind {
        ThreadKind::Control { to_be_saved } => return install_control(to_be_saved),
        ThreadKind::Vcpu { to_be_saved: false } => filters::VCPU,
        ThreadKind::Vcpu { to_be_saved: true } => filters::VCPU_TO_BE_SAVED,
        ThreadKind::Worker(worker) => of_device(worker.name),
    })
}

fn install_control(to_be_saved: bool) -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter(filters::NO_CLONE3)?;
    let filter = if to_be_saved { filters::CONTROL_TO_BE_SAVED } else { filters::CONTROL };
    seccompiler::apply_filter(&of_this_process(filter))
}

/// The filter of the device thread of this name. One that has no rules gets a filter that can't
/// be installed: it serves nothing.
fn of_device(name: &str) -> &'static [sock_filter] {
    let mut all = filters::DEVICES.iter();
    all.find(|(device, _)| *device == name).map_or(&[], |(_, filter)| filter)
}

/// `filter` with this process's number where the build left room for it. The attack: a VMM that
/// signals other processes of root, which its user id alone allows.
fn of_this_process(filter: &[sock_filter]) -> Vec<sock_filter> {
    let own = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    let place = |line: &sock_filter| sock_filter {
        k: if line.k == filters::OWN_PROCESS { own } else { line.k },
        ..line.clone()
    };
    filter.iter().map(place).collect()
}

#[cfg(test)]
mod tests;
