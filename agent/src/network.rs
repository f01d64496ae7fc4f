//! The guest's network: made the same as that of the pod's network namespace on the host, again
//! each time that one changes. What an earlier call brought and a later one leaves out is removed;
//! what containers made by themselves is not touched.

mod interface;
mod parameters;
mod routes;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use netlink::{Kind, LOOPBACK, Object, Socket};

use crate::error::{Error, Result};
use crate::window::Window;
pub(crate) use interface::Interface;

/// A network as it shall be. Objects name interfaces by the host's numbers.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Interfaces with their numbers on the host.
    pub(crate) interfaces: Vec<(u32, Interface)>,
    /// Addresses, neighbours, routes and rules.
    pub(crate) objects: Vec<Object>,
    /// Files below /proc/sys/net and what belongs into them.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Wanted {
    /// Adds objects of one kind.
    ///
    /// # Errors
    /// One of them can't be read.
    pub(crate) fn add(&mut self, kind: Kind, bodies: &[Vec<u8>]) -> Result<()> {
        for body in bodies {
            let object = Object::parse(kind, body);
            let object = object.ok_or_else(|| Error::Invalid(format!("{kind:?}: malformed")))?;
            self.objects.push(object);
        }
        Ok(())
    }
}

/// What was made so far. Objects name interfaces by the guest's numbers.
#[derive(Debug, Default)]
struct Made {
    interfaces: BTreeMap<Window, u32>,
    parameters: BTreeMap<Window, BTreeMap<String, String>>,
    objects: Vec<Object>,
}

/// The guest's network and what in it is the host's doing.
#[derive(Debug, Default)]
pub(crate) struct Network(Mutex<Made>);

impl Network {
    /// Makes the network what it shall be. Can be repeated, also after a failure.
    ///
    /// # Errors
    /// An interface does not appear or does not become what it shall be, or does not take an
    /// address.
    pub(crate) fn apply(&self, wanted: &Wanted) -> Result<()> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket = Socket::open().map_err(Error::io("open a netlink socket"))?;
        made.drop_interfaces(wanted);
        // Before those of interfaces: some change them all.
        parameters::set(&wanted.parameters, "");
        let numbers = made.make_interfaces(&mut socket, wanted)?;
        let translate = |index| match index {
            LOOPBACK => Some(LOOPBACK),
            other => numbers.get(&other).copied(),
        };
        let objects = wanted.objects.iter().cloned();
        let objects: Vec<Object> =
            objects.filter_map(|object| object.translated(&translate)).collect();
        let before = std::mem::take(&mut made.objects);
        // Whatever fails below, all of them may be there from now on.
        made.objects = objects.clone();
        routes::replace(&mut socket, &before, &objects)
    }
}

impl Made {
    fn drop_interfaces(&mut self, wanted: &Wanted) {
        let kept = |window: &Window| wanted.interfaces.iter().any(|(_, new)| new.window == *window);
        let gone: Vec<(Window, u32)> =
            self.interfaces.iter().map(|(w, i)| (*w, *i)).filter(|(w, _)| !kept(w)).collect();
        for (window, index) in gone {
            if let Err(error) = window.unbind() {
                log::warn!("{error}");
            }
            self.interfaces.remove(&window);
            self.parameters.remove(&window);
            // The kernel has removed what it carried.
            self.objects.retain(|object| !object.interfaces().contains(&index));
        }
    }

    /// Makes all interfaces; their numbers here by those on the host.
    fn make_interfaces(
        &mut self,
        socket: &mut Socket,
        wanted: &Wanted,
    ) -> Result<BTreeMap<u32, u32>> {
        let mut numbers = BTreeMap::new();
        for (index, interface) in &wanted.interfaces {
            let own = interface.find(socket)?;
            self.interfaces.insert(interface.window, own);
            numbers.insert(*index, own);
        }
        let pairs = wanted.interfaces.iter().map(|(_, interface)| interface);
        let pairs: Vec<(u32, &Interface)> =
            pairs.filter_map(|new| Some((*self.interfaces.get(&new.window)?, new))).collect();
        interface::rename(socket, &pairs)?;
        for (index, interface) in &pairs {
            let window = interface.window;
            let before = self.parameters.get(&window).cloned().unwrap_or_default();
            interface.set_up(socket, *index, &before)?;
            self.parameters.insert(window, interface.parameters.clone());
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests;
