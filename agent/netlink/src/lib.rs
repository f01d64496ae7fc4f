//! rtnetlink(7) for both ends of the pod's network: the host reads what CNI made, the guest makes
//! the same. Addresses, routes, neighbours and rules travel between them as the kernel writes them
//! (fixed header, then attributes), so that no attribute is lost for want of a field; only what
//! cannot hold in another kernel is taken out, see [`Object::canonical`].
#![forbid(unsafe_code)]

mod attributes;
mod link;
mod object;
mod socket;

pub use attributes::Attributes;
pub use link::{Link, LinkChange, links};
pub use object::{Kind, LOOPBACK, Object, objects};
pub use socket::{Groups, Socket};
