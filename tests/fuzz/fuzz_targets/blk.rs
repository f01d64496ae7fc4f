//! Calls `fuzz::blk::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(blk);
