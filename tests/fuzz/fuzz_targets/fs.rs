//! Calls `fuzz::fs::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(fs);
