//! Calls `fuzz::queue::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(queue);
