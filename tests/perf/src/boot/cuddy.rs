//! One boot by `cuddy-vmm`.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use machine::guest_memory;
use vmm_api::{
    BlockConfig, BootConfig, Channel, DeviceConfig, Event, FdSlot, FromVmm, MachineConfig,
    RawMachineConfig, Reply, Request, Start,
};

use super::{Files, LIMIT, MEMORY_MIB};
use crate::process::{Process, wait_for};

/// Boots, waits for the agent, stops, and answers the time from execution to readiness.
pub(super) fn boot(files: &Files) -> Result<Duration> {
    let (request, fds, _socket) = prepare(files)?;
    let (ours, theirs) = Channel::pair()?;
    let start = Instant::now();
    let child = host::spawn::spawn(Command::new(&files.vmm), &[theirs.into()])
        .with_context(|| format!("executing {}", files.vmm.display()))?;
    let mut child = Process(child);
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    ours.send(&request, &borrowed)?;
    let end = start + LIMIT;
    let elapsed = loop {
        wait_for(&ours, end).context("waiting for the agent")?;
        match ours.recv::<FromVmm>()?.0 {
            FromVmm::Event(Event::GuestReady { .. }) => break start.elapsed(),
            FromVmm::Reply(Reply::Done) => {}
            other => bail!("booting with {}: unexpected {other:?}", files.vmm.display()),
        }
    };
    ours.send(&Request::Stop, &[])?;
    child.wait(end).context("waiting for cuddy-vmm")?;
    Ok(elapsed)
}

/// The boot request, its descriptors, and the folder that holds the vsock's socket.
fn prepare(files: &Files) -> Result<(Request, Vec<OwnedFd>, SocketFile)> {
    let raw = RawMachineConfig {
        vcpus: 1,
        memory_mib: MEMORY_MIB.into(),
        extra_cmdline: String::new(),
        early_serial: false,
    };
    let machine = MachineConfig::try_from(raw)?;
    let memory = guest_memory(machine.memory().bytes()).context("making guest memory")?;
    let kernel = File::open(&files.kernel).context("opening the guest kernel")?;
    let rootfs = File::open(&files.rootfs).context("opening the guest rootfs")?;
    let (socket, listener) = SocketFile::listen()?;
    let console = OpenOptions::new().write(true).open("/dev/null")?;
    let devices = vec![
        DeviceConfig::Block(BlockConfig::new(FdSlot(2), true, "rootfs")?),
        DeviceConfig::Vsock { listener: FdSlot(3) },
        DeviceConfig::Rng,
        DeviceConfig::Console { output: FdSlot(4) },
    ];
    let boot = BootConfig {
        machine,
        start: Start::Kernel(FdSlot(0)),
        memory: FdSlot(1),
        serial: None,
        devices,
        to_be_saved: false,
    };
    let fds = vec![kernel.into(), memory, rootfs.into(), listener.into(), console.into()];
    Ok((Request::Boot(boot), fds, socket))
}

/// A socket's path, removed with this value.
struct SocketFile(std::path::PathBuf);

impl SocketFile {
    fn listen() -> Result<(Self, UnixListener)> {
        let path = std::env::temp_dir().join(format!("perf-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("listening at {}", path.display()))?;
        Ok((Self(path), listener))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            eprintln!("removing {}: {error}", self.0.display());
        }
    }
}
