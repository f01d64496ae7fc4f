//! A pod: its owner, what it may do next, and what is done for it.

pub(crate) mod effects;
mod either;
pub(crate) mod fact;
pub(crate) mod foreign;
pub(crate) mod handle;
pub(crate) mod owner;
pub(crate) mod policy;
pub(crate) mod rest;
pub(crate) mod restarts;
pub(crate) mod site;
pub(crate) mod watch;
