//! Calls `fuzz::websocket::run`.
#![cfg_attr(fuzzing, no_main)]

fuzz::target!(websocket);
