//! Calls `fuzz::spdy::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(spdy);
