//! Calls `fuzz::mmio::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(mmio);
