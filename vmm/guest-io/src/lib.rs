//! Guest memory as system calls and the file server want it: what the devices, which have no
//! unsafe code, can't do with `vm-memory` alone.

mod vectored;
mod view;

pub use vectored::{read, read_at, write, write_at};
pub use view::View;
