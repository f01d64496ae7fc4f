//! One boot by QEMU's `microvm` machine. It has every legacy device off, and is the quickest that
//! stock QEMU offers. It has a virtio device for each of those that Cuddy's machine has.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use vmm_api::READY_PORT;
use vsock::{VMADDR_CID_ANY, VsockListener};

use super::{ALIKE, CMDLINE, Files, LIMIT, MEMORY_MIB, MICROVM};
use crate::process::Process;

/// Context identifier of the measured guest on the host's vsock.
const GUEST_CID: u32 = 4242;

/// Boots, waits until the agent connects, kills QEMU, and answers the time between.
pub(super) fn boot(files: &Files) -> Result<Duration> {
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, READY_PORT)
        .context("listening on vsock; is vhost_vsock loaded?")?;
    let start = Instant::now();
    let qemu = spawn(files)?;
    wait_for_agent(&listener, &qemu)?;
    Ok(start.elapsed())
}

fn wait_for_agent(listener: &VsockListener, qemu: &Process) -> Result<()> {
    let pidfd = pidfd_open(Pid::from_child(&qemu.0), PidfdFlags::empty())?;
    let mut waits = [PollFd::new(listener, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut waits, Some(&Timespec::try_from(LIMIT)?))?;
    if !waits[0].revents().is_empty() {
        listener.accept().context("accepting the agent")?;
        return Ok(());
    }
    if !waits[1].revents().is_empty() {
        bail!("QEMU exited before its guest was ready");
    }
    bail!("the guest under QEMU was not ready within {} s", LIMIT.as_secs())
}

/// Memory is anonymous, for which QEMU asks for huge pages, and the vsock the host kernel's: what
/// stock QEMU is quickest with.
fn spawn(files: &Files) -> Result<Process> {
    let display = |path: &Path| path.display().to_string();
    let disk = format!("if=none,id=root,file={},format=raw,readonly=on", display(&files.rootfs));
    let qemu = Command::new("qemu-system-x86_64")
        .args(["-M", MICROVM, "-smp", "1", "-m", &format!("{MEMORY_MIB}M")])
        .args(ALIKE)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-kernel", &display(&files.kernel), "-append", CMDLINE])
        .args(["-drive", &disk, "-device", "virtio-blk-device,drive=root"])
        .args(["-device", &format!("vhost-vsock-device,guest-cid={GUEST_CID}")])
        .args(["-device", "virtio-rng-device"])
        .args(["-device", "virtio-serial-device", "-chardev", "null,id=console"])
        .args(["-device", "virtconsole,chardev=console"])
        .stdin(Stdio::null())
        .spawn()
        .context("executing qemu-system-x86_64; is it installed?")?;
    Ok(Process(qemu))
}
