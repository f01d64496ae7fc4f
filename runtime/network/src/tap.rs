//! The taps of a pod's interfaces.

use std::io;
use std::os::fd::OwnedFd;

use netlink::{Link, Socket};

/// With the number of the interface beside it this has at most 15 bytes, the longest name.
const PREFIX: &str = "cuddy";

/// Largest packet of a tap: the kernel counts the Ethernet header into its 65535 bytes.
const MAX_MTU: u32 = 65535 - 14;

const RTM_DELLINK: u16 = 17;

/// A tap, which exists as long as one of its queues is open.
#[derive(Debug)]
pub(crate) struct Tap {
    name: String,
    queues: Vec<OwnedFd>,
}

/// What the tap beside an interface is called.
pub(crate) fn name(beside: u32) -> String {
    format!("{PREFIX}{beside}")
}

/// The limit of packets of the tap beside an interface. It only tells others what fits: larger ones
/// of a redirected veth pass.
pub(crate) fn mtu(beside: &Link) -> u32 {
    beside.mtu.min(MAX_MTU)
}

/// Whether this crate has made an interface.
pub(crate) fn is_ours(link: &Link) -> bool {
    let number = link.name.strip_prefix(PREFIX).map(str::parse::<u32>);
    link.kind.as_deref() == Some("tun") && matches!(number, Some(Ok(_)))
}

/// Ends a tap that somebody still holds.
pub(crate) fn delete(socket: &mut Socket, index: u32) {
    let body = [[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat();
    // It may have ended by itself.
    let _gone = socket.change(RTM_DELLINK, 0, &body);
}

impl Tap {
    /// Makes the tap for the interface numbered `beside`, in this thread's network namespace.
    pub(crate) fn make(beside: u32, queues: usize) -> io::Result<Self> {
        let name = name(beside);
        let queue = |_| syscalls::tap::queue(&name, queues > 1).map(OwnedFd::from);
        let queues = (0..queues).map(queue).collect::<io::Result<_>>()?;
        Ok(Self { name, queues })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its descriptors, one for each queue.
    pub(crate) fn into_queues(self) -> Vec<OwnedFd> {
        self.queues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_number_fits_into_a_name() {
        assert_eq!(name(u32::MAX / 2).len(), libc::IFNAMSIZ - 1);
    }
}
