//! An interface of the pod: the device in a window, with the name and all settings of the host's
//! interface behind it.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use netlink::{Link, LinkChange, Socket, links};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::parameters;
use crate::error::{Error, Result};
use crate::sys::net::set_queue_pairs;
use crate::window::Window;

/// The class of devices that interfaces are.
const CLASS: &str = "net";

/// Flags that are taken over beside [`Link::UP`].
const CHOSEN: u32 = Link::NOARP | Link::ALL_MULTICAST | Link::MULTICAST | Link::PROMISCUOUS;

/// An interface as it shall be.
#[derive(Debug)]
pub(crate) struct Interface {
    /// Where its device is.
    pub(crate) window: Window,
    /// Its name.
    pub(crate) name: String,
    /// Hardware address.
    pub(crate) mac: [u8; 6],
    /// Largest packet in bytes.
    pub(crate) mtu: u32,
    /// Length of the transmit queue in packets.
    pub(crate) tx_queue_length: u32,
    /// `IFF_*`.
    pub(crate) flags: u32,
    /// Files below /proc/sys/net, with `*` for the name, and what belongs into them.
    pub(crate) parameters: BTreeMap<String, String>,
}

fn all(socket: &mut Socket) -> Result<Vec<Link>> {
    links(socket).map_err(Error::io("list interfaces"))
}

fn change(socket: &mut Socket, index: u32, what: &str, change: &LinkChange) -> Result<()> {
    change.apply(socket, index).map_err(Error::io(what.to_owned()))
}

impl Interface {
    /// The number of its device, which appears if it has not before.
    ///
    /// # Errors
    /// There is none in the window.
    pub(super) fn find(&self, socket: &mut Socket) -> Result<u32> {
        let present = self.window.device(CLASS);
        let name = present.map_or_else(|| self.window.bind(CLASS), Ok)?;
        let link = all(socket)?.into_iter().find(|link| link.name == name);
        link.map(|link| link.index).ok_or(Error::State("the window's interface is gone"))
    }

    /// Gives it all but its name. Of its parameters only what differs from those `before`: the pod
    /// may have set others of its own by now.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn set_up(
        &self,
        socket: &mut Socket,
        index: u32,
        before: &BTreeMap<String, String>,
    ) -> Result<()> {
        let link = all(socket)?.into_iter().find(|link| link.index == index);
        let link = link.ok_or(Error::State("the window's interface is gone"))?;
        let what = format!("set up {}", self.name);
        let mut first = LinkChange::default().no_own_address();
        if link.mac != Some(self.mac) {
            first = first.mac(self.mac);
        }
        if link.mtu != self.mtu {
            first = first.mtu(self.mtu);
        }
        if link.tx_queue_length != self.tx_queue_length {
            first = first.tx_queue_length(self.tx_queue_length);
        }
        change(socket, index, &what, &first)?;
        let mut changed = self.parameters.clone();
        changed.retain(|file, value| before.get(file) != Some(value));
        parameters::set(&changed, &self.name);
        self.use_queues();
        if (link.flags ^ self.flags) & (CHOSEN | Link::UP) == 0 {
            return Ok(());
        }
        let flags = LinkChange::default().flags(self.flags, CHOSEN | Link::UP);
        change(socket, index, &what, &flags)
    }

    /// The driver uses as many queues as CPUs were online when it found the device, which is one
    /// if that was at boot.
    fn use_queues(&self) {
        let online = std::thread::available_parallelism().map_or(1, usize::from);
        let socket =
            socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        let wanted = u32::try_from(online).unwrap_or(1);
        let set = socket
            .map_err(std::io::Error::from)
            .and_then(|socket| set_queue_pairs(socket.as_fd(), &self.name, wanted));
        if let Err(error) = set {
            log::debug!("queues of {}: {error}", self.name);
        }
    }
}

/// Gives interfaces their names. Two that swap names would be in each other's way: those that
/// change get a name of their window's first.
///
/// # Errors
/// The kernel refuses.
pub(super) fn rename(socket: &mut Socket, interfaces: &[(u32, &Interface)]) -> Result<()> {
    let now = all(socket)?;
    let has_name = |index: u32, name: &str| now.iter().any(|l| l.index == index && l.name == name);
    let other: Vec<_> =
        interfaces.iter().filter(|(index, new)| !has_name(*index, &new.name)).collect();
    let down = LinkChange::default().flags(0, Link::UP);
    for (index, new) in &other {
        let between = format!("w{}", new.window.name().replace("LNRO0005:", ""));
        change(socket, *index, "set an interface down", &down)?;
        let to = LinkChange::default().name(&between);
        change(socket, *index, "rename an interface", &to)?;
    }
    for (index, new) in &other {
        let what = format!("rename an interface to {}", new.name);
        change(socket, *index, &what, &LinkChange::default().name(&new.name))?;
    }
    Ok(())
}
