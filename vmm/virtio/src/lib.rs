//! Virtio devices and their MMIO transport, without any unsafe code.
//!
//! All that reaches this crate from the guest is hostile: register accesses, queue addresses,
//! descriptors and the bytes behind them. A guest's mistake ends in an error that the guest sees or
//! in `DEVICE_NEEDS_RESET`, never in a panic. It never ends in an allocation whose size the guest
//! chooses beyond a named cap.
//!
//! Section numbers are those of the virtio 1.3 specification.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "tests cast small numbers of their own"
    )
)]

#[macro_use]
mod guest_log;

pub mod blk;
pub mod console;
pub mod device;
#[cfg(test)]
mod fake_driver;
pub mod fs;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod interrupt;
pub mod mmio;
pub mod net;
mod queue;
mod registers;
pub mod rng;
mod shadow;
pub mod vsock;
pub mod worker;

pub use guest_log::log_permits;
