//! Calls `fuzz::cli::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(cli);
