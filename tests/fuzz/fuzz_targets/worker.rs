//! Calls `fuzz::worker::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(worker);
