//! `cuddy-vmm` as its client sees it: boots, ends, run-time attach, bad input, the jail. Runs
//! on a KVM host with the product installed; `make e2e TESTS=machine` does so in the lab.
//! `CUDDY_VMM`, `CUDDY_VMLINUX` and `CUDDY_ROOTFS` name other paths.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]
#![allow(clippy::expect_used, reason = "likewise")]

mod bad_input;
mod client;
mod clones;
mod ends;
mod guest;
mod jail;
mod kernels;
mod linux;
mod net;
mod probe;
mod ready;
mod saved;
mod share;
mod tap;
