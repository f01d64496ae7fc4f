//! The measured guest under `cuddy-vmm`.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use machine::guest_memory;
use vmm_api::{
    BlockConfig, BootConfig, Channel, DeviceConfig, Event, FdSlot, FromVmm, MachineConfig,
    MachineEnd, NetConfig, RawMachineConfig, Request, Start,
};

use super::host::{Host, Network};
use super::{Broken, Files, Form, Numbers};
use crate::process::{Process, wait_for};

/// Memory of the measured machines in MiB.
pub(super) const MEMORY_MIB: u32 = 512;

/// What the measured guests' kernels are told beyond [`crate::boot::CMDLINE`]: their reports are
/// on the console.
pub(super) const MORE: &str = "quiet";

/// Hardware address of the measured guests.
pub(super) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Runs the guest and answers its numbers.
pub(super) fn run(files: &Files, host: &Host, form: Form, end: Instant) -> Result<Numbers> {
    let console = host.file("cuddy.log");
    let network = Network::new()?;
    let mut fds = Descriptors(Vec::new());
    let ends = Ends { network: &network, console: File::create(&console)? };
    let boot = request(files, host, form, &mut fds, ends)?;
    let (ours, theirs) = Channel::pair()?;
    let child = host::spawn::spawn(Command::new(&files.vmm), &[theirs.into()])
        .with_context(|| format!("executing {}", files.vmm.display()))?;
    let mut child = Process(child);
    let borrowed: Vec<_> = fds.0.iter().map(AsFd::as_fd).collect();
    ours.send(&boot, &borrowed)?;
    loop {
        wait_for(&ours, end).context("waiting for the guest").context(Broken)?;
        match ours.recv::<FromVmm>()?.0 {
            FromVmm::Event(Event::Ended(MachineEnd::PowerOff)) => break,
            FromVmm::Event(Event::Ended(end)) => return Err(anyhow!("{end}").context(Broken)),
            FromVmm::Event(Event::DeviceFailed { window, reason }) => {
                bail!("device {}: {reason}", window.index())
            }
            FromVmm::Event(_) | FromVmm::Reply(vmm_api::Reply::Done) => {}
            FromVmm::Reply(other) => bail!("not booted: {other:?}"),
        }
    }
    child.wait(end).context("waiting for cuddy-vmm")?;
    host.numbers(&console)
}

/// The descriptors of a request in the making.
struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    fn slot(&mut self, fd: impl Into<OwnedFd>) -> Result<FdSlot> {
        self.0.push(fd.into());
        Ok(FdSlot(u8::try_from(self.0.len() - 1)?))
    }
}

/// What the machine's devices lead to on the host.
struct Ends<'a> {
    network: &'a Network,
    /// File of the console's output.
    console: File,
}

fn request(
    files: &Files,
    host: &Host,
    form: Form,
    fds: &mut Descriptors,
    ends: Ends<'_>,
) -> Result<Request> {
    let Ends { network, console } = ends;
    let raw = RawMachineConfig {
        vcpus: 1,
        memory_mib: MEMORY_MIB.into(),
        extra_cmdline: MORE.to_owned(),
        early_serial: false,
    };
    let machine = MachineConfig::try_from(raw)?;
    let memory = guest_memory(machine.memory().bytes()).context("making guest memory")?;
    let read_write = |path| OpenOptions::new().read(true).write(true).open(path);
    let vhost = match form {
        Form::Vhost => vec![fds.slot(read_write("/dev/vhost-net").context("vhost-net")?)?],
        Form::Plain | Form::IoThread => Vec::new(),
    };
    let taps = vec![fds.slot(network.tap.try_clone()?)?];
    let disk = OpenOptions::new().read(true).write(true).open(host.disk())?;
    let devices = vec![
        DeviceConfig::Block(BlockConfig::new(fds.slot(File::open(host.root())?)?, true, "root")?),
        DeviceConfig::Block(BlockConfig::new(fds.slot(disk)?, false, "data")?),
        DeviceConfig::Console { output: fds.slot(console)? },
        DeviceConfig::Fs { tag: "share".to_owned(), root: fds.slot(File::open(host.share())?)? },
        DeviceConfig::Net(NetConfig::new(MAC, 1500, taps, vhost)?),
    ];
    let kernel = fds.slot(File::open(&files.kernel).context("opening the guest kernel")?)?;
    let memory = fds.slot(memory)?;
    let start = Start::Kernel(kernel);
    let (serial, to_be_saved) = (None, false);
    Ok(Request::Boot(BootConfig { machine, start, memory, serial, devices, to_be_saved }))
}
