//! rtnetlink(7) for both ends of the pod's network: the host reads what CNI made, the guest makes
//! the same. Addresses, routes, neighbours and rules travel between them in the kernel's own form:
//! a fixed header, then attributes. So no attribute is lost for want of a field.
//! [`Object::canonical`] takes out only what cannot hold in another kernel.
#![forbid(unsafe_code)]

mod attributes;
mod link;
mod object;
mod socket;

pub use attributes::Attributes;
pub use link::{Link, LinkChange, links};
pub use object::{Kind, LOOPBACK, Object, objects};
pub use socket::{Groups, Socket};
