//! The contract between a shim and its `cuddy-vmm` process.
//!
//! One Unix `SOCK_SEQPACKET` connection carries JSON messages with the descriptors they name (see
//! [`wire`]). The VMM inherits it as descriptor [`CONTROL_FD`]. The shim sends [`Request`]s, each
//! answered by one [`Reply`] in order. The VMM adds [`Event`]s at any time.
//!
//! ```text
//!            Boot                 Pause
//!   New ───────────────► Running ◄──────► Paused
//!    │                      │      Resume    │
//!    │ Stop, closed socket  ▼                │ Save, too
//!    └───────────────────► Ended ◄───────────┘
//! ```
//!
//! No message names a path. What a device needs reaches the VMM as an [`FdSlot`], the position of a
//! descriptor in the list sent with the same message.

pub mod config;
pub mod kvm;
pub mod message;
pub mod pages;
pub mod wire;

pub use config::{
    BlockConfig, BootConfig, ConfigError, DeviceConfig, FdSlot, KernelDigest, MachineConfig,
    MemoryMib, NetConfig, RawMachineConfig, Start, VcpuCount, Window,
};
pub use message::{
    ErrorKind, ErrorReply, Event, FromVmm, MachineEnd, MachineState, MachineStatus, Reply, Request,
};
pub use wire::{Channel, WireError};

/// Descriptor number of the control socket in the VMM process.
pub const CONTROL_FD: i32 = 3;

/// Number of virtio-mmio windows of every machine; valid [`Window`]s are `0..WINDOWS`.
pub const WINDOWS: u8 = 64;

/// Context identifier of the guest on its vsock. Every machine has its own vsock device, so
/// all guests share the first identifier that the specification leaves free (virtio 1.3 §5.10.4).
pub const GUEST_CID: u64 = 3;

/// vsock port to which the guest's agent connects on the host (CID 2) once it serves its
/// ports. The VMM refuses the connection and raises [`Event::GuestReady`] instead.
pub const READY_PORT: u32 = 1;
