//! SPDY/3.1 as Kubernetes' clients speak it, by `moby/spdystream`: one connection, streams that
//! the client opens, and no flow control.
//!
//! Neither side counts windows: a client that sent more than 64 KiB would wait for ever for one
//! that does, or the other way round. What slows a sender down is the connection below. So a
//! stream whose buffer is full stops all input of its connection, and output goes on.
//!
//! Source: the SPDY protocol, draft 3.1, sections 2.2 (frames) and 2.6 (frames' content).

mod connection;
mod dictionary;
mod frame;
mod headers;

pub(crate) use connection::{Connection, Stream, serve};
pub(crate) use headers::Headers;

#[cfg(fuzzing)]
pub(crate) use frame::syn_stream;
#[cfg(fuzzing)]
pub(crate) use headers::Deflater as Blocks;
