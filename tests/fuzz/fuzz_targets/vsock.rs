//! Calls `fuzz::vsock::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(vsock);
