//! From a boot request to a machine whose vCPUs wait to be let go.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use kvm_ioctls::{VcpuFd, VmFd};
use virtio::mmio::{Shadows, TransportState};
use virtio::worker::Spawner;
use vm_memory::GuestMemoryMmap;
use vmm_api::{BootConfig, ConfigError, DeviceConfig, KernelDigest, Start, WINDOWS, Window};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::run::{Machine, MachineError, Parts};
use super::save::{self, Saver};
use super::vcpus;
use crate::arch::x86_64::layout;
use crate::boot::{self, BootError};
use crate::bus::Bus;
use crate::descriptors::{DescriptorError, Descriptors};
use crate::devices::power::Power;
use crate::devices::pvpanic::PvPanic;
use crate::devices::serial::SerialPort;
use crate::jail::{self, JailError};
use crate::kvm::{self, KvmError, operation};
use crate::memory::{self, Mappings, MemoryError, written};
use crate::notice::NoticeSender;
use crate::saved::{self, SavedError};
use crate::seccomp::ThreadKind;
use crate::vcpu::{Buses, StateError, Vcpus};
use crate::windows::Windows;

/// A machine that could not be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The request names its descriptors wrongly.
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    /// `early_serial` without a descriptor for its output.
    #[error("early serial console asked for, but no descriptor named for its output")]
    NoSerial,
    /// The saved machine is not one that this process can go on with.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// A vCPU can't go on where the saved one was.
    #[error(transparent)]
    Vcpu(#[from] StateError),
    /// A value is out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// More than one device of a kind of which there can be one.
    #[error("more than one {0} device: a machine has at most one")]
    Several(&'static str),
    /// The memory can't be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The kernel can't be booted.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The host's KVM does not do it.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The jail can't be entered.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// A device can't be made.
    #[error("device {index} of the boot request")]
    Device {
        /// Its position in the request.
        index: usize,
        /// Why.
        source: MachineError,
    },
    /// The host refuses threads or descriptors.
    #[error("start threads")]
    Threads(#[source] io::Error),
}

/// What is left of a saved machine, but for its memory.
struct Origin {
    state: OwnedFd,
    kernel: KernelDigest,
    written: Option<OwnedFd>,
}

/// A machine with all that can be made before the jail.
#[derive(Debug)]
pub(crate) struct Prepared {
    vm: VmFd,
    memory: GuestMemoryMmap,
    shadows: Shadows,
    vcpus: Vec<VcpuFd>,
    serial: Option<OwnedFd>,
    devices: Vec<DeviceConfig>,
    descriptors: Descriptors,
    /// What the first devices go on from.
    saved: Option<Vec<(Window, TransportState)>>,
    saver: Option<Saver>,
    /// Last, so that it goes last: the memory of a machine from a saved one.
    mappings: Option<Mappings>,
}

impl Prepared {
    /// Checks a boot request and builds what it can without running anything.
    ///
    /// # Errors
    /// [`BuildError`]; nothing is left of the attempt.
    pub(crate) fn new(config: BootConfig, descriptors: Vec<OwnedFd>) -> Result<Self, BuildError> {
        let mut descriptors = Descriptors::new(descriptors);
        check_devices(&config.devices)?;
        save::check_request(&config)?;
        let start = descriptors.take(match config.start {
            Start::Kernel(kernel) => kernel,
            Start::Saved { state, .. } => state,
        })?;
        let memory = descriptors.take(config.memory)?;
        let early = config.machine.early_serial();
        let serial = config.serial.map(|slot| descriptors.take(slot)).transpose()?;
        if early && serial.is_none() {
            return Err(BuildError::NoSerial);
        }
        let mut prepared = match config.start {
            Start::Kernel(_) => Self::from_kernel(&config, start, memory)?,
            Start::Saved { kernel, written, .. } => {
                let written = written.map(|slot| descriptors.take(slot)).transpose()?;
                let origin = Origin { state: start, kernel, written };
                Self::from_saved(&config, origin, memory)?
            }
        };
        prepared.serial = serial.filter(|_| early);
        prepared.devices = config.devices;
        prepared.descriptors = descriptors;
        Ok(prepared)
    }

    /// A machine that boots `kernel`.
    fn from_kernel(
        config: &BootConfig,
        kernel: OwnedFd,
        memory: OwnedFd,
    ) -> Result<Self, BuildError> {
        let shape = &config.machine;
        let memory = memory::map(memory, shape.memory())?;
        let digest = save::digest(config.to_be_saved, &kernel)?;
        let entry = boot::load(&memory, kernel, shape, &config.devices)?;
        let kvm = kvm::open()?;
        let shadows = Shadows::new(WINDOWS.into());
        let vm = kvm::create_vm(&kvm, &memory, &shadows)?;
        let cpuids = vcpus::cpuids(&kvm, shape.vcpus().get())?;
        let vcpus = vcpus::create(&vm, &cpuids)?;
        vcpus.first().map_or(Ok(()), |vcpu| vcpus::enter_kernel(vcpu, entry))?;
        let saver = digest.map(|kernel| Saver::new(&kvm, &vm, shape, kernel, &cpuids));
        let mut prepared = Self::of(vm, memory, shadows, vcpus);
        prepared.saver = saver.transpose()?;
        Ok(prepared)
    }

    /// A machine that goes on where a saved one was.
    fn from_saved(
        config: &BootConfig,
        origin: Origin,
        memory: OwnedFd,
    ) -> Result<Self, BuildError> {
        let shape = &config.machine;
        let saved = saved::read(origin.state)?;
        saved.check_request(shape, origin.kernel, &config.devices)?;
        let kvm = kvm::open()?;
        // The guest knows its processor as it was saved, whatever number of vCPUs it has now.
        let mut cpuids = vcpus::cpuids(&kvm, saved.origin.shape.vcpus().get())?;
        cpuids.truncate(shape.vcpus().get().into());
        saved.check_cpu(cpuids.first().map_or(&[], |cpuid| cpuid.as_slice()))?;
        let (memory, mappings) = memory::map_private(memory, shape.memory())?;
        if let Some(written) = origin.written {
            let written = written::read(written).map_err(MemoryError::Written)?;
            written::populate(&memory, &written);
        }
        boot::renew_generation(&memory)?;
        let shadows = Shadows::new(WINDOWS.into());
        let vm = kvm::create_vm(&kvm, &memory, &shadows)?;
        let vcpus = vcpus::create(&vm, &cpuids)?;
        vcpus::restore(&kvm, &vm, &vcpus, &saved)?;
        let mut prepared = Self::of(vm, memory, shadows, vcpus);
        (prepared.saved, prepared.mappings) = (Some(saved.devices), Some(mappings));
        Ok(prepared)
    }

    /// A machine without devices.
    fn of(vm: VmFd, memory: GuestMemoryMmap, shadows: Shadows, vcpus: Vec<VcpuFd>) -> Self {
        Self {
            vm,
            memory,
            shadows,
            vcpus,
            serial: None,
            devices: Vec::new(),
            descriptors: Descriptors::new(Vec::new()),
            saved: None,
            saver: None,
            mappings: None,
        }
    }

    /// Enters the jail, makes the devices and all threads.
    ///
    /// # Errors
    /// [`BuildError`]; the process is then half in its jail and must end.
    pub(crate) fn jail(mut self, notices: &NoticeSender) -> Result<Machine, BuildError> {
        let share = self.devices.iter().find_map(|device| match device {
            DeviceConfig::Fs { root, .. } => Some(*root),
            _ => None,
        });
        let share = share.map(|slot| self.descriptors.borrow(slot)).transpose()?;
        // From here on the process lives no longer than the machine.
        self.mappings.take().into_iter().for_each(Mappings::keep);
        jail::enter(share)?;
        let vm = Arc::new(self.vm);
        let windows = Arc::new(Windows::new(Arc::clone(&vm), self.memory, self.shadows));
        let mut buses = Buses { ports: power_ports(), memory: Bus::default() };
        buses.memory.add(layout::WINDOW_RANGE, Arc::clone(&windows) as _);
        if let Some(output) = self.serial {
            add_serial(&vm, &mut buses.ports, output)?;
        }
        let extent = self.saver.as_ref().map(Saver::extent);
        let vcpus =
            Vcpus::start(self.vcpus, &buses, notices, extent).map_err(BuildError::Threads)?;
        let spawner = Spawner::new(|kind| {
            jail::restrict_thread(ThreadKind::Worker(kind)).map_err(io::Error::other)
        });
        let to_be_saved = self.saver.is_some();
        let restored = self.saved.is_some();
        let parts = Parts { vcpus, windows, spawner, saver: self.saver, vm };
        let machine = Machine::new(parts, notices.clone(), restored);
        let states = self.saved.into_iter().flatten().map(Some).chain(std::iter::repeat(None));
        for ((index, device), state) in self.devices.into_iter().enumerate().zip(states) {
            let attached = match state {
                Some((window, state)) => {
                    machine.restore(device, &mut self.descriptors, window, &state)
                }
                None => machine.attach(device, &mut self.descriptors).map(drop),
            };
            attached.map_err(|source| BuildError::Device { index, source })?;
        }
        jail::restrict_thread(ThreadKind::Control { to_be_saved })?;
        Ok(machine)
    }
}

/// There can be one share, because the jail has one, and one socket device, because there is
/// one context identifier.
fn check_devices(devices: &[DeviceConfig]) -> Result<(), BuildError> {
    let count = |kind: fn(&DeviceConfig) -> bool| devices.iter().filter(|d| kind(d)).count();
    if count(|device| matches!(device, DeviceConfig::Fs { .. })) > 1 {
        return Err(BuildError::Several("fs"));
    }
    if count(|device| matches!(device, DeviceConfig::Vsock { .. })) > 1 {
        return Err(BuildError::Several("vsock"));
    }
    let tag = devices.iter().find_map(|device| match device {
        DeviceConfig::Fs { tag, .. } => Some(tag),
        _ => None,
    });
    match tag {
        Some(tag) if !(1..=36).contains(&tag.len()) => Err(ConfigError::Tag(tag.clone()).into()),
        _ => Ok(()),
    }
}

/// The ports that every machine has.
fn power_ports() -> Bus {
    let mut ports = Bus::default();
    ports.add(Power::ports(), Arc::new(Power));
    let pvpanic = u64::from(layout::PVPANIC_PORT);
    ports.add(pvpanic..pvpanic + 1, Arc::new(PvPanic));
    ports
}

fn add_serial(vm: &VmFd, ports: &mut Bus, output: OwnedFd) -> Result<(), BuildError> {
    let line = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(BuildError::Threads)?;
    vm.register_irqfd(&line, layout::SERIAL_LINE)
        .map_err(operation("wire the serial port's interrupt"))?;
    let first = u64::from(layout::SERIAL_PORT);
    let range = first..first + u64::from(layout::SERIAL_PORTS);
    ports.add(range, Arc::new(SerialPort::new(output, line)));
    Ok(())
}
