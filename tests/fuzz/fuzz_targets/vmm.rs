//! Calls `fuzz::vmm::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(vmm);
