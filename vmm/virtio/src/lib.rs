//! Virtio devices and their MMIO transport, without any unsafe code.
//!
//! All that reaches this crate from the guest is hostile: register accesses, queue addresses,
//! descriptors and the bytes behind them.
#![forbid(unsafe_code)]

pub mod device;
