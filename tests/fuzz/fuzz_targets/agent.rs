//! Calls `fuzz::agent::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(agent);
