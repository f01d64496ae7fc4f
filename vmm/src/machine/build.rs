//! From a boot request to a machine whose vCPUs wait to be let go.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use virtio::mmio::Shadows;
use virtio::worker::Spawner;
use vm_memory::GuestMemoryMmap;
use vmm_api::{BootConfig, ConfigError, DeviceConfig, Start, WINDOWS};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::run::{Machine, MachineError};
use crate::arch::x86_64::{cpuid, entry, layout, msrs};
use crate::boot::{self, BootError};
use crate::bus::Bus;
use crate::descriptors::{DescriptorError, Descriptors};
use crate::devices::power::Power;
use crate::devices::pvpanic::PvPanic;
use crate::devices::serial::SerialPort;
use crate::jail::{self, JailError};
use crate::kvm::{self, KvmError, operation};
use crate::memory::{self, MemoryError};
use crate::notice::NoticeSender;
use crate::seccomp::ThreadKind;
use crate::vcpu::{Buses, Vcpus};
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
    /// Saving and restoring is not built yet.
    #[error("this build can neither save machines nor start from saved ones")]
    Unsavable,
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
}

impl Prepared {
    /// Checks a boot request and builds what it can without running anything.
    ///
    /// # Errors
    /// [`BuildError`]; nothing is left of the attempt.
    pub(crate) fn new(config: BootConfig, descriptors: Vec<OwnedFd>) -> Result<Self, BuildError> {
        let mut descriptors = Descriptors::new(descriptors);
        check_devices(&config.devices)?;
        let shape = &config.machine;
        let Start::Kernel(kernel) = config.start else {
            return Err(BuildError::Unsavable);
        };
        let kernel = descriptors.take(kernel)?;
        let memory = descriptors.take(config.memory)?;
        let serial = config.serial.map(|slot| descriptors.take(slot)).transpose()?;
        if shape.early_serial() && serial.is_none() {
            return Err(BuildError::NoSerial);
        }
        let memory = memory::map(memory, shape.memory())?;
        let entry = boot::load(&memory, kernel, shape, &config.devices)?;
        let kvm = kvm::open()?;
        let shadows = Shadows::new(WINDOWS.into());
        let vm = kvm::create_vm(&kvm, &memory, &shadows)?;
        let vcpus = create_vcpus(&kvm, &vm, shape.vcpus().get(), entry)?;
        let serial = serial.filter(|_| shape.early_serial());
        Ok(Self { vm, memory, shadows, vcpus, serial, devices: config.devices, descriptors })
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
        jail::enter(share)?;
        let vm = Arc::new(self.vm);
        let windows = Arc::new(Windows::new(Arc::clone(&vm), self.memory, self.shadows));
        let mut buses = Buses { ports: power_ports(), memory: Bus::default() };
        buses.memory.add(layout::WINDOW_RANGE, Arc::clone(&windows) as _);
        if let Some(output) = self.serial {
            add_serial(&vm, &mut buses.ports, output)?;
        }
        let vcpus = Vcpus::start(self.vcpus, &buses, notices).map_err(BuildError::Threads)?;
        let spawner = Spawner::new(|kind| {
            jail::restrict_thread(ThreadKind::Worker(kind)).map_err(io::Error::other)
        });
        let machine = Machine::new(vcpus, windows, spawner, notices.clone());
        for (index, device) in self.devices.into_iter().enumerate() {
            machine
                .attach(device, &mut self.descriptors)
                .map_err(|source| BuildError::Device { index, source })?;
        }
        jail::restrict_thread(ThreadKind::Control)?;
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

/// All vCPUs with their first state; the first one at the kernel's `entry`, the others waiting
/// for their start-up interrupt.
fn create_vcpus(kvm: &Kvm, vm: &VmFd, count: u8, entry: u64) -> Result<Vec<VcpuFd>, KvmError> {
    let supported = kvm::supported_cpuid(kvm)?;
    let msrs = msrs::initial().ok_or(KvmError::Lacks("room for the initial MSRs"))?;
    let mut vcpus = Vec::new();
    for index in 0..count {
        let vcpu = vm.create_vcpu(index.into()).map_err(operation("create vCPU"))?;
        let cpuid = cpuid::of_vcpu(&supported, cpuid::Place { index, count })
            .ok_or(KvmError::Lacks("room for the CPUID table"))?;
        vcpu.set_cpuid2(&cpuid).map_err(operation("set CPUID"))?;
        let set = vcpu.set_msrs(&msrs).map_err(operation("set MSRs"))?;
        if set != msrs.as_slice().len() {
            return Err(KvmError::Lacks("an MSR that firmware would set"));
        }
        if index == 0 {
            let mut sregs = vcpu.get_sregs().map_err(operation("read system registers"))?;
            entry::enter_64_bit_mode(&mut sregs);
            vcpu.set_sregs(&sregs).map_err(operation("set system registers"))?;
            vcpu.set_regs(&entry::registers(entry)).map_err(operation("set registers"))?;
        }
        vcpus.push(vcpu);
    }
    Ok(vcpus)
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
