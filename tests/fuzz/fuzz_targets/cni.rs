//! Calls `fuzz::cni::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(cni);
