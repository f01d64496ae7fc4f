//! Calls `fuzz::device::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(device);
