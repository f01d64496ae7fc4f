//! Calls `fuzz::layer::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(layer);
