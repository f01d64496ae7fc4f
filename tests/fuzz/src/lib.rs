//! Fuzzers of what crosses a trust boundary: from a guest to its VMM, from a VMM or an agent to its
//! shim. Shims, registries, CNI's plugins, layers of images, clients of streams and requests of
//! Kubernetes cross others. See README.md here.
//!
//! Each target is a module with a function `run`, which gets an input of libFuzzer and panics if
//! something is wrong. A target finds more than panics of the product: each module says what it
//! checks.
#![cfg_attr(
    fuzzing,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::cast_possible_truncation,
        reason = "tests"
    )
)]

/// Makes a program of the target in the module of that name.
#[cfg(fuzzing)]
#[macro_export]
macro_rules! target {
    ($module:ident) => {
        libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::$module::run(input));
    };
}

/// A program that says how to fuzz.
#[cfg(not(fuzzing))]
#[macro_export]
macro_rules! target {
    ($module:ident) => {
        fn main() {
            eprintln!(concat!("not built for fuzzing: make fuzz TARGETS=", stringify!($module)));
            std::process::exit(2);
        }
    };
}

#[cfg(fuzzing)]
pub mod accounts;
#[cfg(fuzzing)]
pub mod agent;
#[cfg(fuzzing)]
pub mod archive;
#[cfg(fuzzing)]
pub mod blk;
#[cfg(fuzzing)]
pub mod cli;
#[cfg(fuzzing)]
pub mod cni;
#[cfg(fuzzing)]
pub mod device;
#[cfg(fuzzing)]
pub mod erofs;
#[cfg(fuzzing)]
pub mod fs;
#[cfg(fuzzing)]
mod guest;
#[cfg(fuzzing)]
mod hostile;
#[cfg(fuzzing)]
pub mod layer;
#[cfg(fuzzing)]
mod limits;
#[cfg(fuzzing)]
pub mod mmio;
#[cfg(fuzzing)]
pub mod queue;
#[cfg(fuzzing)]
pub mod registry;
#[cfg(fuzzing)]
pub mod saved;
#[cfg(fuzzing)]
pub mod shim;
#[cfg(fuzzing)]
pub mod spdy;
#[cfg(fuzzing)]
pub mod spec;
#[cfg(fuzzing)]
mod stage;
#[cfg(fuzzing)]
pub mod vmm;
#[cfg(fuzzing)]
pub mod vsock;
#[cfg(fuzzing)]
pub mod websocket;
#[cfg(fuzzing)]
pub mod worker;
