//! The server of exec, attach and port-forward, as clients of Kubernetes' container runtime
//! interface speak them: the kubelet, `crictl`, and our own command. It knows no message of that
//! interface, and no container: the caller provides the process, or the port.
//!
//! - [`Server`] listens, gives out an address for each [`Session`], and serves it once.
//! - [`Session`] is what was asked for, with the caller's code that does it.
//! - [`Streams`] is what that code gets: the ends of a process's standard streams.
//! - [`Limits`] bounds all of it.
//!
//! How a session lives:
//!
//! ```text
//! registered ──client connects──▶ negotiated ──its streams are there──▶ running ──▶ status, end
//!     │ 1 min                         │ 30 s                               │ client goes, idle
//!     ▼                               ▼                                    ▼ limit, or shutdown
//! forgotten                        closed               input ends, the code may finish, detached
//! ```
//!
//! Two protocols carry a session: SPDY/3.1 (`spdy`), and channels over a WebSocket (`websocket`).
//! Each has a task that reads and one that writes. The reader stops while a stream's buffer is
//! full, the code waits while the client does not read, and neither waits for the other.
//!
//! Sources: `k8s.io/cri-streaming` for what servers do, `k8s.io/client-go` and `moby/spdystream`
//! for what clients need. See `docs/decisions/streaming.md`.

mod carrier;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod limits;
mod negotiate;
mod port_forward;
mod remote_command;
mod server;
mod session;
mod shared;
mod spdy;
mod streams;
mod token;
mod websocket;

pub use error::Error;
pub use limits::Limits;
pub use server::{Listeners, Server};
pub use session::{Duplex, Session, Wanted};
pub use streams::{Input, Output, Size, Streams};
