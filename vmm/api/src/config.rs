//! What a machine is made of. Values of these types can only be built valid. The fields of a
//! [`RawMachineConfig`] are as read, those of a [`MachineConfig`] are checked. Reading one from the
//! wire checks again, so that the VMM need not trust its client.

mod net;
mod start;

use serde::{Deserialize, Serialize};

pub use net::{MAX_QUEUE_PAIRS, MIN_MTU, NetConfig};
pub use start::{KernelDigest, Start};

use crate::WINDOWS;

/// Longest kernel command line in bytes that a caller may add; Linux on x86 takes 2048
/// in all (`COMMAND_LINE_SIZE`) and the machine's own part needs less than 512.
pub const MAX_EXTRA_CMDLINE: usize = 1024;

/// A machine value that is out of its range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The number of vCPUs is outside 1 to 32.
    #[error("{0} vCPUs asked for: a machine has between 1 and 32")]
    Vcpus(u32),
    /// The memory size is outside 64 MiB to 256 GiB.
    #[error("{0} MiB of memory asked for: a machine has between 64 MiB and 262144 MiB (256 GiB)")]
    Memory(u64),
    /// The extra command line is too long or holds a byte that the kernel would misread.
    #[error("kernel command line addition: {0}")]
    Cmdline(&'static str),
    /// A window number past the table.
    #[error("window {0} does not exist: a machine has windows 0 to 63")]
    Window(u8),
    /// A virtio-fs tag is empty or longer than its 36-byte field (virtio 1.3 §5.11.4).
    #[error("virtio-fs tag {0:?}: must be 1 to 36 bytes")]
    Tag(String),
    /// A disk serial is longer than its 20-byte field (virtio 1.3 §5.2.6).
    #[error("disk serial {0:?}: must be at most 20 bytes of printable ASCII")]
    Serial(String),
    /// A kernel's digest is not 64 hexadecimal digits.
    #[error("kernel digest {0:?}: must be the 64 hexadecimal digits of a SHA-256")]
    Digest(String),
    /// A value of a network device is out of its range.
    #[error("network device: {0}")]
    Net(&'static str),
}

/// Number of vCPUs of a machine, 1 to 32. All are present; one is online after boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct VcpuCount(u8);

impl VcpuCount {
    /// The count as a plain number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u32> for VcpuCount {
    type Error = ConfigError;

    fn try_from(count: u32) -> Result<Self, ConfigError> {
        match u8::try_from(count) {
            Ok(small @ 1..=32) => Ok(Self(small)),
            _ => Err(ConfigError::Vcpus(count)),
        }
    }
}

impl From<VcpuCount> for u32 {
    fn from(count: VcpuCount) -> Self {
        count.0.into()
    }
}

/// Size of a machine's memory in MiB, 64 to 262144.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct MemoryMib(u32);

impl MemoryMib {
    /// The size in MiB.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

impl TryFrom<u64> for MemoryMib {
    type Error = ConfigError;

    fn try_from(mib: u64) -> Result<Self, ConfigError> {
        match u32::try_from(mib) {
            Ok(small @ 64..=262_144) => Ok(Self(small)),
            _ => Err(ConfigError::Memory(mib)),
        }
    }
}

impl From<MemoryMib> for u64 {
    fn from(memory: MemoryMib) -> Self {
        memory.0.into()
    }
}

/// Index of a virtio-mmio window, 0 to 63. In the guest it is the platform device
/// `LNRO0005:XX` with `XX` the index in two hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Window(u8);

impl Window {
    /// The index as a plain number.
    pub fn index(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Window {
    type Error = ConfigError;

    fn try_from(index: u8) -> Result<Self, ConfigError> {
        if index < WINDOWS { Ok(Self(index)) } else { Err(ConfigError::Window(index)) }
    }
}

impl From<Window> for u8 {
    fn from(window: Window) -> Self {
        window.0
    }
}

/// Position of a descriptor in the list that came with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FdSlot(pub u8);

/// A machine's shape as read from a client or a file, unchecked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMachineConfig {
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Words added to the kernel's command line, separated by spaces.
    #[serde(default)]
    pub extra_cmdline: String,
    /// Whether the kernel logs its early boot to an emulated serial port, for debugging.
    #[serde(default)]
    pub early_serial: bool,
}

/// A machine's shape, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawMachineConfig", into = "RawMachineConfig")]
pub struct MachineConfig {
    vcpus: VcpuCount,
    memory: MemoryMib,
    extra_cmdline: String,
    early_serial: bool,
}

impl MachineConfig {
    /// Number of vCPUs.
    pub fn vcpus(&self) -> VcpuCount {
        self.vcpus
    }

    /// Size of the memory.
    pub fn memory(&self) -> MemoryMib {
        self.memory
    }

    /// Words to add to the kernel's command line.
    pub fn extra_cmdline(&self) -> &str {
        &self.extra_cmdline
    }

    /// Whether early boot is logged to the serial port.
    pub fn early_serial(&self) -> bool {
        self.early_serial
    }
}

impl TryFrom<RawMachineConfig> for MachineConfig {
    type Error = ConfigError;

    fn try_from(raw: RawMachineConfig) -> Result<Self, ConfigError> {
        if raw.extra_cmdline.len() > MAX_EXTRA_CMDLINE {
            return Err(ConfigError::Cmdline("longer than 1024 bytes"));
        }
        if !raw.extra_cmdline.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(ConfigError::Cmdline("holds a byte that is not printable ASCII"));
        }
        Ok(Self {
            vcpus: raw.vcpus.try_into()?,
            memory: raw.memory_mib.try_into()?,
            extra_cmdline: raw.extra_cmdline,
            early_serial: raw.early_serial,
        })
    }
}

impl From<MachineConfig> for RawMachineConfig {
    fn from(config: MachineConfig) -> Self {
        Self {
            vcpus: config.vcpus.into(),
            memory_mib: config.memory.into(),
            extra_cmdline: config.extra_cmdline,
            early_serial: config.early_serial,
        }
    }
}

/// Everything that a machine needs to boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootConfig {
    /// The machine's shape. For [`Start::Saved`] it is that of the saved machine, or has fewer
    /// vCPUs: the guest then must not switch on more than there are.
    pub machine: MachineConfig,
    /// What the guest starts from.
    pub start: Start,
    /// A memfd or tmpfs file of exactly the machine's memory size. For [`Start::Kernel`] it is
    /// open for reading and writing. For [`Start::Saved`] it holds the saved machine's memory and
    /// can't be written: it is sealed (`F_SEAL_WRITE`) or open for reading only. The machine's
    /// writes then go to copies of its own.
    pub memory: FdSlot,
    /// Where the guest's early serial console goes; needed with `early_serial` only.
    pub serial: Option<FdSlot>,
    /// Devices present at boot; the first takes window 0, the next window 1 and so on. The
    /// first [`DeviceConfig::Block`] is the guest's root filesystem, `/dev/vda`. For
    /// [`Start::Saved`] the first ones are those that the machine had when it was saved, in the
    /// same order and of the same kinds. They take the windows that they had, with host sides of
    /// their own; those that follow take the next free windows.
    pub devices: Vec<DeviceConfig>,
    /// Whether the machine is one that takes [`Request::Save`](crate::Request::Save). Its threads
    /// may make the system calls that saving needs, which those of other machines may not.
    #[serde(default)]
    pub to_be_saved: bool,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawBlockConfig", into = "RawBlockConfig")]
pub struct BlockConfig {
    file: FdSlot,
    read_only: bool,
    serial: String,
}

impl BlockConfig {
    /// A disk over the file or block device at `file`, which must be open for writing unless
    /// `read_only`. `serial` is what the guest reads from `/sys/block/*/serial`.
    ///
    /// # Errors
    /// [`ConfigError::Serial`] if `serial` is not at most 20 bytes of printable ASCII.
    pub fn new(file: FdSlot, read_only: bool, serial: &str) -> Result<Self, ConfigError> {
        if serial.len() > 20 || !serial.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::Serial(serial.to_owned()));
        }
        Ok(Self { file, read_only, serial: serial.to_owned() })
    }

    /// The disk's file or block device.
    pub fn file(&self) -> FdSlot {
        self.file
    }

    /// Whether the guest may only read.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// The disk's serial, at most 20 bytes.
    pub fn serial(&self) -> &str {
        &self.serial
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBlockConfig {
    file: FdSlot,
    read_only: bool,
    serial: String,
}

impl TryFrom<RawBlockConfig> for BlockConfig {
    type Error = ConfigError;

    fn try_from(raw: RawBlockConfig) -> Result<Self, ConfigError> {
        Self::new(raw.file, raw.read_only, &raw.serial)
    }
}

impl From<BlockConfig> for RawBlockConfig {
    fn from(config: BlockConfig) -> Self {
        Self { file: config.file, read_only: config.read_only, serial: config.serial }
    }
}

/// A device to put into a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DeviceConfig {
    /// Entropy from the host (virtio 1.3 §5.4).
    Rng,
    /// A disk (virtio 1.3 §5.2).
    Block(BlockConfig),
    /// The guest's socket to the host (virtio 1.3 §5.10); at most one, at boot only.
    Vsock {
        /// A listening Unix stream socket. A client connects, writes `CONNECT <port>\n`, and
        /// reads `OK <host port>\n` once the guest has accepted; from then on the connection
        /// is the guest's stream, half-close included. A refused connection is closed.
        listener: FdSlot,
    },
    /// A shared directory (virtio 1.3 §5.11), served inside the VMM; at most one, at boot only.
    Fs {
        /// Name by which the guest mounts it, 1 to 36 bytes.
        tag: String,
        /// The directory to share, a descriptor opened with `O_PATH | O_DIRECTORY`. It becomes
        /// the only part of the host's file systems that the VMM sees.
        root: FdSlot,
    },
    /// The guest's console, `hvc0` (virtio 1.3 §5.3), output only.
    Console {
        /// Where the output goes. What can't be written at once is dropped and counted.
        output: FdSlot,
    },
    /// A network device (virtio 1.3 §5.1).
    Net(NetConfig),
}
