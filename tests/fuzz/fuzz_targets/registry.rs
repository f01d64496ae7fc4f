//! Calls `fuzz::registry::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(registry);
