//! Starting a VMM: opening what it needs, handing it over, asking it to boot.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use api::Error;
use host::Config;
use host::cgroup::{self, Cgroup};
use host::journal::Entry;
use host::mounts::{Share, open_read_only};
use host::spawn::{self, Watched};
use host::store::StateDir;
use vmm_api::{BlockConfig, BootConfig, Channel, DeviceConfig, FdSlot, MachineConfig, Start};

use super::Machine;
use super::image::check_erofs;
use super::memory::guest_memory;
use crate::console::Outputs;
use crate::socket;

/// virtio-fs tag of the shared directory.
pub const SHARE_TAG: &str = "share";

/// What a machine is started from.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The operator's settings.
    pub config: &'a Config,
    /// Its shape.
    pub shape: MachineConfig,
    /// Where its socket and files are; must exist.
    pub state: &'a StateDir,
    /// What it shares with its guest.
    pub share: Arc<Share>,
    /// The cgroup for it and for this process.
    pub cgroup: Option<&'a Cgroup>,
    /// What it is worth to the host's OOM killer, -1000 to 1000.
    pub oom_score_adj: i32,
}

/// Descriptors in the order in which their slots are handed out.
#[derive(Default)]
struct Slots(Vec<OwnedFd>);

impl Slots {
    fn add(&mut self, fd: impl Into<OwnedFd>) -> Result<FdSlot, Error> {
        let slot = u8::try_from(self.0.len());
        self.0.push(fd.into());
        slot.map(FdSlot).map_err(|_| Error::Invalid("too many devices".into()))
    }
}

/// What a machine boots from, as its VMM is told.
#[derive(Debug)]
pub struct Boot {
    pub(super) config: BootConfig,
    pub(super) fds: Vec<OwnedFd>,
}

/// Starts a VMM, whose machine is to be booted by [`Machine::boot`].
///
/// # Errors
/// [`Error::Unavailable`] for a kernel, image or binary that is not there, by name;
/// [`Error::Failed`] for what the host refuses. Nothing is left running then.
pub fn launch(launch: Launch<'_>) -> Result<(Machine, Boot), Error> {
    let (outputs, ends) = Outputs::start(&launch.state.console(), &launch.state.vmm_log())
        .map_err(|error| Error::failed("opening the machine's logs", &error))?;
    let mut slots = Slots::default();
    let config = describe(&launch, &mut slots, &ends.console)?;
    let (ours, theirs) =
        Channel::pair().map_err(|error| Error::failed("making the control socket", &error))?;
    let channel = Machine::channel(ours)?;
    let process = Arc::new(start(&launch, theirs.into(), ends.vmm)?);
    let machine = Machine::of(process, channel, launch.shape.clone(), outputs);
    Ok((machine, Boot { config, fds: slots.0 }))
}

fn describe(
    launch: &Launch<'_>,
    slots: &mut Slots,
    console: &OwnedFd,
) -> Result<BootConfig, Error> {
    let Launch { config, shape, state, .. } = launch;
    let kernel = slots.add(open("guest kernel", &config.kernel)?)?;
    let image = open("guest root image", &config.rootfs)?;
    check_erofs(&image, &config.rootfs)?;
    let image = slots.add(image)?;
    let memory = guest_memory(shape.memory().bytes())
        .map_err(|error| Error::failed("making the guest's memory", &error))?;
    let memory = slots.add(memory)?;
    let vsock = state.vsock();
    let listener = socket::listen(&vsock)
        .map_err(|error| Error::failed(&format!("listening on {}", vsock.display()), &error))?;
    let listener = slots.add(listener)?;
    let root = launch.share.directory();
    let root = slots.add(root.map_err(|error| Error::failed("opening the share", &error))?)?;
    let failed = |error: std::io::Error| Error::failed("opening the console log", &error);
    let output = slots.add(console.try_clone().map_err(failed)?)?;
    let serial = match shape.early_serial() {
        true => Some(slots.add(console.try_clone().map_err(failed)?)?),
        false => None,
    };
    let image = BlockConfig::new(image, true, "cuddy-root")
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let devices = vec![
        DeviceConfig::Block(image),
        DeviceConfig::Rng,
        DeviceConfig::Vsock { listener },
        DeviceConfig::Fs { tag: SHARE_TAG.to_owned(), root },
        DeviceConfig::Console { output },
    ];
    Ok(BootConfig {
        machine: shape.clone(),
        start: Start::Kernel(kernel),
        memory,
        serial,
        devices,
        to_be_saved: false,
    })
}

fn open(what: &str, path: &Path) -> Result<File, Error> {
    open_read_only(path)
        .map_err(|e| Error::Unavailable(format!("opening the {what} {}: {e}", path.display())))
}

fn start(launch: &Launch<'_>, control: OwnedFd, stderr: OwnedFd) -> Result<Watched, Error> {
    let path = &launch.config.vmm;
    let failed = |error: std::io::Error| {
        Error::failed(&format!("starting the VMM {}", path.display()), &error)
    };
    let mut command = Command::new(path);
    // All threads of the VMM share one malloc arena; one each would cost 30 to 130 KiB.
    command.env_clear().env("GLIBC_TUNABLES", "glibc.malloc.arena_max=1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(stderr));
    spawn::ended_by_parent(&mut command);
    // A child is born where its parent is: nothing of the VMM is ever outside of the pod's cgroup.
    if let Some(cgroup) = launch.cgroup {
        enter(cgroup, launch.state)?;
    }
    let child = launch.share.spawn(command, vec![control]).map_err(failed)?;
    let process = Watched::new(child).map_err(failed)?;
    let pid = process.pid();
    let started = spawn::start_time(pid).unwrap_or_default();
    let noted = launch.state.journal().and_then(|mut journal| {
        journal.add(&Entry::Process { pid, started })?;
        std::fs::write(launch.state.vmm_pid(), pid.to_string())
    });
    if let Err(error) = noted {
        process.abandon();
        return Err(failed(error));
    }
    if let Err(error) = cgroup::set_oom_score(pid, launch.oom_score_adj) {
        log::warn!("{error}");
    }
    Ok(process)
}

/// Puts this process, and with it the VMM that it starts, where the pod's limits hold.
fn enter(cgroup: &Cgroup, state: &StateDir) -> Result<(), Error> {
    let noted = state.journal().and_then(|mut journal| {
        let mut entries = cgroup.directories().map(|path| Entry::Cgroup { path: path.to_owned() });
        entries.try_for_each(|entry| journal.add(&entry))
    });
    noted.map_err(|error| Error::failed("writing the journal", &error))?;
    cgroup.create()?;
    cgroup.bound_threads();
    cgroup.enter(std::process::id())
}
