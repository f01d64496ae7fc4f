//! Devices as the machine sees them. [`catalog`] is the only place that knows virtio devices by
//! name. [`power`], [`pvpanic`] and [`serial`] are the few legacy registers that a kernel needs to
//! boot and stop.

pub(crate) mod catalog;
pub(crate) mod power;
pub(crate) mod pvpanic;
pub(crate) mod serial;
pub(crate) mod tap;
mod watched;
