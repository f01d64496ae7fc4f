//! Calls `fuzz::archive::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(archive);
