//! Starting a VMM: opening what it needs, handing it over, asking it to boot.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::Error;
use host::Config;
use host::cgroup::{self, Cgroup};
use host::journal::Entry;
use host::mounts::{Share, open_read_only};
use host::spawn::{self, Forked, Program, StartError, Watched};
use host::store::StateDir;
use vmm_api::{
    BlockConfig, BootConfig, Channel, DeviceConfig, FdSlot, KernelDigest, MachineConfig, Start,
};

use super::Machine;
use super::entering::Entering;
use super::image::check_erofs;
use super::memory::guest_memory;
use crate::console::Outputs;
use crate::socket;

/// virtio-fs tag of the shared directory.
pub const SHARE_TAG: &str = "share";

/// Window of the shared directory, in machines that are booted and in clones alike.
pub const SHARE_WINDOW: u32 = 4;

/// How a guest comes to run.
#[derive(Debug)]
pub enum From {
    /// It boots the operator's kernel.
    Kernel,
    /// The same, to be saved by [`Machine::save`]. It has no share: nobody could give that back.
    KernelToSave {
        /// The file that is its memory, of its size, which stays when the machine has ended.
        memory: OwnedFd,
    },
    /// It goes on where a machine was saved.
    Saved(Saved),
}

/// What is left of a machine that was saved.
#[derive(Debug)]
pub struct Saved {
    /// Its state, open for reading.
    pub state: File,
    /// Its memory, open for reading by a mount that is read-only.
    pub memory: File,
    /// The guest's root image that it had, opened as [`open_read_only`] does.
    pub image: File,
    /// The kernel that it was booted from.
    pub kernel: KernelDigest,
    /// The pages that its clones write, as [`vmm_api::pages`] has them, open for reading.
    pub written: Option<File>,
    /// How long it took until its agent was ready, without what it waited for a CPU.
    pub booted_in: Duration,
}

/// What a machine is started from.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The operator's settings.
    pub config: &'a Config,
    /// Its shape.
    pub shape: MachineConfig,
    /// How its guest comes to run.
    pub from: From,
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
    /// This process's way into the machine's cgroup.
    pub(super) entering: Option<Entering>,
}

/// Starts a VMM, whose machine is to be booted by [`Machine::boot`].
///
/// # Errors
/// [`Error::Unavailable`] for a kernel, image or binary that is not there, by name;
/// [`Error::Failed`] for what the host refuses. Nothing is left running then.
pub fn launch(launch: Launch<'_>) -> Result<(Machine, Boot), Error> {
    let (outputs, ends) = Outputs::start(&launch.state.console(), &launch.state.vmm_log())
        .map_err(|error| Error::failed("opening the machine's logs", &error))?;
    let Launch { config, shape, from, state, share, cgroup, oom_score_adj } = launch;
    let boot_before = match &from {
        From::Saved(saved) => saved.booted_in,
        From::Kernel | From::KernelToSave { .. } => Duration::ZERO,
    };
    let with_share = !matches!(from, From::KernelToSave { .. });
    let mut slots = Slots::default();
    let origin = Origin::open(config, &shape, from, &mut slots)?;
    let serial = shape.early_serial().then(|| console(&mut slots, &ends.console)).transpose()?;
    let mut devices = own_devices(origin.image, state, &mut slots, &ends.console)?;
    if with_share {
        let root = share.directory();
        let root = slots.add(root.map_err(|error| Error::failed("opening the share", &error))?)?;
        devices.push(DeviceConfig::Fs { tag: SHARE_TAG.to_owned(), root });
    }
    let request = BootConfig {
        machine: shape.clone(),
        start: origin.start,
        memory: origin.memory,
        serial,
        devices,
        to_be_saved: !with_share,
    };
    let (ours, theirs) =
        Channel::pair().map_err(|error| Error::failed("making the control socket", &error))?;
    let channel = Machine::channel(ours)?;
    let place = Place { vmm: &config.vmm, state, share: &share, cgroup, oom_score_adj };
    let (process, entering) = place.start(theirs.into(), &ends.vmm)?;
    let machine = Machine::of(Arc::new(process), channel, shape, outputs).after(boot_before);
    Ok((machine, Boot { config: request, fds: slots.0, entering }))
}

/// What a machine's guest comes from, as its VMM is told.
struct Origin {
    start: Start,
    memory: FdSlot,
    /// The guest's root image.
    image: FdSlot,
}

impl Origin {
    fn open(
        config: &Config,
        shape: &MachineConfig,
        from: From,
        slots: &mut Slots,
    ) -> Result<Self, Error> {
        let memory = match from {
            From::Saved(Saved { state, memory, image, kernel, written, .. }) => {
                let written = written.map(|written| slots.add(written)).transpose()?;
                let start = Start::Saved { state: slots.add(state)?, kernel, written };
                let (memory, image) = (slots.add(memory)?, slots.add(image)?);
                return Ok(Self { start, memory, image });
            }
            From::KernelToSave { memory } => memory,
            From::Kernel => guest_memory(shape.memory().bytes())
                .map_err(|error| Error::failed("making the guest's memory", &error))?,
        };
        let start = Start::Kernel(slots.add(open("guest kernel", &config.kernel)?)?);
        let image = open("guest root image", &config.rootfs)?;
        check_erofs(&image, &config.rootfs)?;
        Ok(Self { start, memory: slots.add(memory)?, image: slots.add(image)? })
    }
}

/// The devices that a machine has whatever it came from, in the order of their windows.
fn own_devices(
    image: FdSlot,
    state: &StateDir,
    slots: &mut Slots,
    output: &OwnedFd,
) -> Result<Vec<DeviceConfig>, Error> {
    let image = BlockConfig::new(image, true, "cuddy-root")
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let vsock = state.vsock();
    let listener = socket::listen(&vsock)
        .map_err(|error| Error::failed(&format!("listening on {}", vsock.display()), &error))?;
    let listener = slots.add(listener)?;
    Ok(vec![
        DeviceConfig::Block(image),
        DeviceConfig::Rng,
        DeviceConfig::Vsock { listener },
        DeviceConfig::Console { output: console(slots, output)? },
    ])
}

fn console(slots: &mut Slots, output: &OwnedFd) -> Result<FdSlot, Error> {
    let output = output.try_clone();
    slots.add(output.map_err(|error| Error::failed("opening the console log", &error))?)
}

fn open(what: &str, path: &Path) -> Result<File, Error> {
    open_read_only(path)
        .map_err(|e| Error::Unavailable(format!("opening the {what} {}: {e}", path.display())))
}

/// Where and how a VMM's process runs.
struct Place<'a> {
    vmm: &'a Path,
    state: &'a StateDir,
    share: &'a Share,
    cgroup: Option<&'a Cgroup>,
    oom_score_adj: i32,
}

impl Place<'_> {
    /// Starts it. This process is on its way into the cgroup then.
    fn start(
        &self,
        control: OwnedFd,
        stderr: &OwnedFd,
    ) -> Result<(Watched, Option<Entering>), Error> {
        let failed = |error: io::Error| {
            Error::failed(&format!("starting the VMM {}", self.vmm.display()), &error)
        };
        let program = Program::new(self.vmm, stderr, &[control]).map_err(failed)?;
        let birthplace = self.make_cgroup()?;
        let entering = match (self.cgroup, &birthplace) {
            (Some(cgroup), Some(_)) => Some(Entering::begin(cgroup.clone())?),
            _ => None,
        };
        let place = self.cgroup.cloned().zip(birthplace);
        let born = self.share.start(move || give_birth(&program, place)).map_err(failed)?;
        let process = Watched::started(born).map_err(failed)?;
        let pid = process.pid();
        let started = spawn::start_time(pid).unwrap_or_default();
        let noted = self.state.journal().and_then(|mut journal| {
            journal.add(&Entry::Process { pid, started })?;
            std::fs::write(self.state.vmm_pid(), pid.to_string())
        });
        if let Err(error) = noted {
            process.abandon();
            return Err(failed(error));
        }
        if let Err(error) = cgroup::set_oom_score(pid, self.oom_score_adj) {
            log::warn!("{error}");
        }
        Ok((process, entering))
    }

    /// Makes the cgroup. A VMM is born in the directory returned, so that nothing of it is ever outside.
    /// This process needs long to get there, and goes meanwhile. Where the VMM can't be born there, this
    /// process is there already.
    fn make_cgroup(&self) -> Result<Option<OwnedFd>, Error> {
        let Some(cgroup) = self.cgroup else { return Ok(None) };
        let noted = self.state.journal().and_then(|mut journal| {
            let mut entries =
                cgroup.directories().map(|path| Entry::Cgroup { path: path.to_owned() });
            entries.try_for_each(|entry| journal.add(&entry))
        });
        noted.map_err(|error| Error::failed("writing the journal", &error))?;
        cgroup.create()?;
        cgroup.bound_threads();
        let birthplace = cgroup.birthplace();
        if birthplace.is_none() {
            cgroup.enter(std::process::id())?;
        }
        Ok(birthplace)
    }
}

/// Starts a VMM in its cgroup. Where the kernel can't do that (before Linux 5.7), this process is moved
/// there first.
fn give_birth(vmm: &Program, place: Option<(Cgroup, OwnedFd)>) -> io::Result<Forked> {
    let Some((cgroup, directory)) = place else { return Ok(vmm.start(None)?) };
    match vmm.start(Some(directory.as_fd())) {
        Err(StartError::Process(error)) => {
            log::debug!("no process can be born in the pod's cgroup: {error}");
            cgroup.enter(std::process::id()).map_err(io::Error::other)?;
            Ok(vmm.start(None)?)
        }
        started => Ok(started?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_comes_right_after_what_every_machine_has() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(&dir.path().join("test/pod"));
        state.create().unwrap();
        let (_reader, console) = rustix::pipe::pipe().unwrap();
        let mut slots = Slots::default();
        let devices = own_devices(FdSlot(0), &state, &mut slots, &console).unwrap();
        assert_eq!(devices.len(), usize::try_from(SHARE_WINDOW).unwrap());
        assert!(matches!(devices[0], DeviceConfig::Block(_)), "the first disk is the root");
    }
}
