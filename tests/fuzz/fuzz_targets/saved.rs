//! Calls `fuzz::saved::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(saved);
