//! Calls `fuzz::spec::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(spec);
