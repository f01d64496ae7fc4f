//! Calls `fuzz::accounts::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(accounts);
