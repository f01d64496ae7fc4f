//! Calls `fuzz::erofs::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(erofs);
