//! What the options of `cuddy run` mean, one kind a file (pure, but for files that they name).

pub(crate) mod environment;
pub(crate) mod port;
pub(crate) mod restart;
pub(crate) mod user;
pub(crate) mod volume;
