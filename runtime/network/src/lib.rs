//! The host's half of a pod's network. CNI has configured the pod's network namespace. Each of its
//! interfaces gets a tap beside it here. Traffic control joins the two in both directions, so that
//! packets pass by the namespace's own stack:
//!
//! ```text
//!   node ── veth ══ eth0 ──ingress──► redirect ──► tap ── descriptor ── machine ── eth0 of the guest
//!                     ▲────────────── redirect ◄──ingress──┘
//! ```
//!
//! The interface keeps its addresses, which CNI's CHECK and DEL want to find. What arrives never
//! reaches the namespace's stack, so that only the guest answers. The guest is told all of it
//! ([`Plan`]) and told again when something changes ([`Watch`]).
//!
//! Nothing outlives the namespace: taps end with their descriptors, filters with the interfaces.
//! [`undo`] cleans up a namespace that goes on after a crash.

mod bpf;
mod counters;
mod error;
mod forward;
mod netns;
mod parameters;
mod pinned;
mod redirect;
mod scan;
mod tap;
mod watch;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use netlink::{LinkChange, Socket, links};

pub use counters::Counters;
pub use error::Error;
pub use forward::{Listener, Listeners};
pub use netlink::{Kind, Link, Object};
pub use netns::Netns;
pub use pinned::{is_pinned, pin, unpin};
pub use scan::{Interface, Plan};
pub use watch::Watch;

use tap::Tap;

/// The host's accelerator of virtio queues.
const VHOST: &str = "/dev/vhost-net";

/// A network namespace whose interfaces are joined to taps. Its drop undoes what it made.
#[derive(Debug)]
pub struct Network {
    netns: Netns,
    socket: Socket,
    taps: BTreeMap<u32, u32>,
}

/// The machine's ends of an interface, one for each queue pair.
#[derive(Debug)]
pub struct Ports {
    /// Tap descriptors, as `vmm_api::NetConfig` wants them.
    pub taps: Vec<OwnedFd>,
    /// Descriptors of `/dev/vhost-net`, as many or none.
    pub vhost: Vec<OwnedFd>,
}

impl Network {
    /// Takes hold of a network namespace.
    ///
    /// # Errors
    /// [`Error::Own`] for the one that this process is in; [`Error::Io`] when there is none.
    pub fn open(netns: Netns) -> Result<Self, Error> {
        let socket = netns.enter("opening a netlink socket", Socket::open)?;
        Ok(Self { netns, socket, taps: BTreeMap::new() })
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// What the namespace has now.
    ///
    /// # Errors
    /// [`Error::Io`] with what the kernel answered.
    pub fn scan(&mut self) -> Result<Plan, Error> {
        Plan::read(&self.netns, &mut self.socket)
    }

    /// Kernel parameters of the namespace as a whole: file below /proc/sys/net, to value.
    ///
    /// # Errors
    /// [`Error::Io`] if the namespace can't be entered.
    pub fn parameters(&self) -> Result<BTreeMap<String, String>, Error> {
        self.netns.enter("reading the namespace's parameters", || Ok(parameters::of_namespace()))
    }

    /// A subscription to changes. What changes after this call is not missed.
    ///
    /// # Errors
    /// [`Error::Io`] with what the kernel answered.
    pub fn watch(&self) -> Result<Watch, Error> {
        Watch::new(&self.netns)
    }

    /// Listens on the namespace's loopback for connections to any port.
    ///
    /// # Errors
    /// [`Error::Io`], above all when the host refuses the program that steers them.
    pub fn listen(&self) -> Result<Listeners, Error> {
        Listeners::new(&self.netns)
    }

    /// Joins an interface to a new tap with so many queue pairs (1 to 16).
    ///
    /// # Errors
    /// [`Error::Held`] when the interface is joined to another machine; [`Error::Io`] with what the
    /// kernel answered. Nothing of it is left then.
    pub fn connect(&mut self, link: &Link, queues: usize) -> Result<Ports, Error> {
        self.refuse_held(link)?;
        // A redirection that a crash has left would be in the way.
        redirect::remove(&mut self.socket, link.index);
        let tap = self
            .netns
            .enter(&format!("making a tap for {}", link.name), || Tap::make(link.index, queues))?;
        match self.join(link, &tap) {
            Ok(index) => {
                self.taps.insert(link.index, index);
                Ok(Ports { vhost: vhost(queues), taps: tap.into_queues() })
            }
            Err(error) => {
                redirect::remove(&mut self.socket, link.index);
                Err(error)
            }
        }
    }

    /// A tap exists as long as somebody holds it.
    fn refuse_held(&mut self, link: &Link) -> Result<(), Error> {
        let tap = tap::name(link.index);
        let doing = format!("looking for the tap of {}", link.name);
        let all = links(&mut self.socket).map_err(|error| Error::io(&doing, error))?;
        if all.iter().any(|other| other.name == tap) {
            return Err(Error::Held { interface: link.name.clone(), tap });
        }
        Ok(())
    }

    fn join(&mut self, link: &Link, tap: &Tap) -> Result<u32, Error> {
        let socket = &mut self.socket;
        let doing = format!("joining {} to {}", link.name, tap.name());
        let failed = |error| Error::Io { doing: doing.clone(), source: error };
        let all = links(socket).map_err(failed)?;
        let made = all.iter().find(|other| other.name == tap.name());
        let index = made.map(|made| made.index).ok_or_else(|| failed(gone()))?;
        // No address of its own: it would speak to the guest as a neighbour.
        let quiet = LinkChange::default().no_own_address().mtu(tap::mtu(link));
        quiet.apply(socket, index).map_err(failed)?;
        redirect::leave_unqueued(socket, index).map_err(failed)?;
        let up = LinkChange::default().flags(Link::UP, Link::UP);
        up.apply(socket, index).map_err(failed)?;
        redirect::add(socket, index, link.index).map_err(failed)?;
        redirect::add(socket, link.index, index).map_err(failed)?;
        Ok(index)
    }

    /// Follows a change of an interface's packet limit.
    ///
    /// # Errors
    /// [`Error::Io`] with what the kernel answered.
    pub fn set_mtu(&mut self, link: &Link) -> Result<(), Error> {
        let Some(&tap) = self.taps.get(&link.index) else { return Ok(()) };
        let change = LinkChange::default().mtu(tap::mtu(link)).apply(&mut self.socket, tap);
        change.map_err(|source| Error::Io {
            doing: format!("setting the MTU of the tap of {}", link.name),
            source,
        })
    }

    /// Parts an interface from its tap. The tap itself ends with its last descriptor.
    pub fn disconnect(&mut self, index: u32) {
        self.taps.remove(&index);
        redirect::remove(&mut self.socket, index);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let indexes: Vec<u32> = self.taps.keys().copied().collect();
        indexes.into_iter().for_each(|index| self.disconnect(index));
    }
}

fn gone() -> std::io::Error {
    std::io::ErrorKind::NotFound.into()
}

/// One freshly opened descriptor for each queue pair, or none where the host does not offer it.
fn vhost(queues: usize) -> Vec<OwnedFd> {
    let open = || File::options().read(true).write(true).open(VHOST).map(OwnedFd::from);
    let all: std::io::Result<Vec<_>> = (0..queues).map(|_| open()).collect();
    all.unwrap_or_default()
}

/// Undoes what a process that is gone did to the namespace at `path`, if it is still the one with
/// that number of an inode. Can be repeated.
///
/// # Errors
/// [`Error::Io`] when the namespace is there but can't be looked at.
pub fn undo(path: &Path, inode: u64) -> Result<(), Error> {
    let netns = match Netns::open(path) {
        Ok(netns) if netns.inode() == inode => netns,
        // This process's own was never taken: it came to the path later, as when the number of a
        // process in it was given to another one.
        Ok(_) | Err(Error::Gone(_) | Error::Own(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut socket = netns.enter("opening a netlink socket", Socket::open)?;
    let doing = format!("listing the interfaces of {}", path.display());
    let all = links(&mut socket).map_err(|source| Error::Io { doing, source })?;
    for link in all.iter().filter(|link| scan::carried(link).is_ok()) {
        redirect::remove(&mut socket, link.index);
    }
    // A machine that outlives its shim for a moment may still hold them.
    for tap in all.iter().filter(|link| tap::is_ours(link)) {
        tap::delete(&mut socket, tap.index);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
