//! `cuddy-vmm`: takes its control socket as descriptor 3, and no arguments.
#![allow(unsafe_code, reason = "adopts the descriptor that it was started with, tunes malloc")]

use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use rustix::net::SocketType;
use vmm::control::Control;
use vmm_api::{CONTROL_FD, Channel, MachineEnd};

/// Exit codes. The control socket tells more; these are for whoever only sees the process.
mod code {
    /// The VMM failed, or was started wrongly.
    pub(super) const FAILED: u8 = 1;
    /// The guest reset itself.
    pub(super) const RESET: u8 = 10;
    /// The guest kernel panicked.
    pub(super) const PANIC: u8 = 11;
    /// A vCPU shut down.
    pub(super) const TRIPLE_FAULT: u8 = 12;
    /// KVM could not go on.
    pub(super) const KVM: u8 = 13;
}

fn main() -> ExitCode {
    let executed = Instant::now();
    share_one_arena();
    vmm::logger::start();
    match serve(executed) {
        Ok(MachineEnd::PowerOff | MachineEnd::Stopped) => ExitCode::SUCCESS,
        Ok(MachineEnd::Reset) => code::RESET.into(),
        Ok(MachineEnd::Panic) => code::PANIC.into(),
        Ok(MachineEnd::TripleFault) => code::TRIPLE_FAULT.into(),
        Ok(MachineEnd::KvmInternalError { .. }) => code::KVM.into(),
        Ok(end @ (MachineEnd::Failed { .. } | MachineEnd::Killed)) => {
            eprintln!("cuddy-vmm: {end}");
            code::FAILED.into()
        }
        Err(error) => {
            eprintln!("cuddy-vmm: {error:#}");
            code::FAILED.into()
        }
    }
}

/// Makes all threads allocate from one arena. Each arena of its own would cost a thread that
/// allocates next to nothing tens of KiB, and the allocator a look into `/sys` to count CPUs.
fn share_one_arena() {
    // SAFETY: no other thread runs yet; the call has no other precondition.
    let done = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    debug_assert_eq!(done, 1);
}

/// Has the kernel make room for this many descriptors at once. Once there are threads it would wait
/// until all of them have looked away from a table that is full (`expand_fdtable`): a guest's open of a
/// share's file would take 10 ms. The table has 4 KiB.
fn make_room_for_files(any: &OwnedFd) {
    const FILES: i32 = 512;
    // Without it all is only slower.
    let _highest = rustix::io::fcntl_dupfd_cloexec(any, FILES - 1);
}

fn serve(executed: Instant) -> anyhow::Result<MachineEnd> {
    if std::env::args_os().len() > 1 {
        bail!("takes no arguments: it is started by containerd-shim-cuddy-v2");
    }
    // SAFETY: nothing in this process has opened or taken this descriptor; if it is not open,
    // the check below says so before anything else is opened.
    let socket = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
    let kind = rustix::net::sockopt::socket_type(&socket)
        .context("descriptor 3 is not a socket: cuddy-vmm is started by containerd-shim-cuddy-v2");
    let kind = match kind {
        Ok(kind) => kind,
        Err(error) => {
            // Not ours after all.
            std::mem::forget(socket);
            return Err(error);
        }
    };
    ensure!(kind == SocketType::SEQPACKET, "descriptor 3 is not a SOCK_SEQPACKET socket");
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)
        .context("keep the control socket to this process")?;
    make_room_for_files(&socket);
    let control = Control::new(Channel::new(socket), executed).context("start serving")?;
    Ok(control.run())
}
