//! Register layout of a virtio-mmio window, version 2 (§4.2.2).

/// Size in bytes of a window: registers, then configuration space up to its end.
pub const WINDOW_SIZE: u64 = 4 * WINDOW_WORDS as u64;
/// The same in words of 4 bytes.
pub(crate) const WINDOW_WORDS: usize = 128;

/// "virt", little endian; read-only.
pub(crate) const MAGIC_VALUE: u64 = 0x000;
/// Version of the register layout; read-only.
pub(crate) const VERSION: u64 = 0x004;
/// Device type, 0 for an empty window; read-only.
pub(crate) const DEVICE_ID: u64 = 0x008;
/// Vendor; read-only.
pub(crate) const VENDOR_ID: u64 = 0x00c;
/// 32 of the offered features; read-only.
pub(crate) const DEVICE_FEATURES: u64 = 0x010;
/// Which 32 of the offered features are shown; write-only.
pub(crate) const DEVICE_FEATURES_SEL: u64 = 0x014;
/// 32 of the accepted features; write-only.
pub(crate) const DRIVER_FEATURES: u64 = 0x020;
/// Which 32 of the accepted features are set; write-only.
pub(crate) const DRIVER_FEATURES_SEL: u64 = 0x024;
/// Which queue the queue registers are about; write-only.
pub(crate) const QUEUE_SEL: u64 = 0x030;
/// Largest size of the queue, 0 if there is none; read-only.
pub(crate) const QUEUE_SIZE_MAX: u64 = 0x034;
/// Size that the driver uses; write-only.
pub(crate) const QUEUE_SIZE: u64 = 0x038;
/// Whether the queue may be used.
pub(crate) const QUEUE_READY: u64 = 0x044;
/// Index of a queue that has new buffers; write-only. A machine makes KVM turn these writes
/// into events: see [`MmioTransport::kicks`](crate::mmio::MmioTransport::kicks).
pub const QUEUE_NOTIFY: u64 = 0x050;
/// Reasons of the last interrupts; read-only.
pub(crate) const INTERRUPT_STATUS: u64 = 0x060;
/// Reasons that the driver has handled; write-only. Nothing is to be done about
/// [`INTERRUPT_USED_RING`](crate::interrupt::INTERRUPT_USED_RING) alone, which shows as long as the
/// device is active: a machine makes KVM swallow those writes.
pub const INTERRUPT_ACK: u64 = 0x064;
/// Device status; writing 0 resets.
pub(crate) const STATUS: u64 = 0x070;
/// Descriptor table's address, lower half, then upper half; write-only.
pub(crate) const QUEUE_DESC_LOW: u64 = 0x080;
/// Upper half of the descriptor table's address.
pub(crate) const QUEUE_DESC_HIGH: u64 = 0x084;
/// Lower half of the available ring's address.
pub(crate) const QUEUE_DRIVER_LOW: u64 = 0x090;
/// Upper half of the available ring's address.
pub(crate) const QUEUE_DRIVER_HIGH: u64 = 0x094;
/// Lower half of the used ring's address.
pub(crate) const QUEUE_DEVICE_LOW: u64 = 0x0a0;
/// Upper half of the used ring's address.
pub(crate) const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
/// Which shared memory region the next four words are about; write-only.
pub(crate) const SHM_SEL: u64 = 0x0ac;
/// First of the four words of a shared memory region's length and base; read-only. All ones
/// in the length mean that there is no such region (§4.2.2.1).
pub(crate) const SHM_LEN_LOW: u64 = 0x0b0;
/// Last of the four words of a shared memory region's length and base.
pub(crate) const SHM_BASE_HIGH: u64 = 0x0bc;
/// The device's configuration space.
pub(crate) const CONFIG: u64 = 0x100;

/// Content of [`MAGIC_VALUE`].
pub(crate) const MAGIC: u32 = 0x7472_6976;
/// Content of [`VERSION`].
pub(crate) const LAYOUT_VERSION: u32 = 2;
/// Content of [`VENDOR_ID`]: "CUDD", little endian. Linux only shows it.
pub(crate) const VENDOR: u32 = 0x4444_5543;

/// Device status bits (§2.1).
pub(crate) mod status {
    /// The guest has seen the device.
    pub(crate) const ACKNOWLEDGE: u32 = 1;
    /// The guest has a driver.
    pub(crate) const DRIVER: u32 = 2;
    /// The driver can be served.
    pub(crate) const DRIVER_OK: u32 = 4;
    /// The features are agreed on.
    pub(crate) const FEATURES_OK: u32 = 8;
    /// The device can't go on.
    pub(crate) const DEVICE_NEEDS_RESET: u32 = 64;
    /// The guest has given up.
    pub(crate) const FAILED: u32 = 128;
    /// All bits that a driver may set.
    pub(crate) const DRIVER_BITS: u32 = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;
}
