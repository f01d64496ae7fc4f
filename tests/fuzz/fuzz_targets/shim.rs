//! Calls `fuzz::shim::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(shim);
