//! Addresses, neighbours, routes and rules: making the difference between what was and what shall
//! be.

use netlink::{Kind, Object, Socket};

use crate::error::{Error, Result};

/// Makes `wanted` out of what an earlier call made.
///
/// # Errors
/// The kernel does not take an address. A route that it does not take is only logged: one exotic
/// attribute must not cost the pod its network.
pub(super) fn replace(socket: &mut Socket, before: &[Object], wanted: &[Object]) -> Result<()> {
    for kind in Kind::ALL.into_iter().rev() {
        for object in before.iter().filter(|object| object.kind() == kind) {
            if !has(wanted, object) {
                // It may have gone with what it depended on.
                let _gone = object.remove(socket);
            }
        }
    }
    let addresses = missing(&read(socket)?, wanted, Kind::Address);
    for address in &addresses {
        let interfaces = address.interfaces();
        let add = address.add(socket);
        add.map_err(Error::io(format!("add an address to interfaces {interfaces:?}")))?;
    }
    let present = read(socket)?;
    remove_consequences(socket, &addresses, &present, wanted);
    for kind in [Kind::Neighbour, Kind::Route, Kind::Rule] {
        add_all(socket, missing(&present, wanted, kind));
    }
    Ok(())
}

fn missing(present: &[Object], wanted: &[Object], kind: Kind) -> Vec<Object> {
    let missing = |object: &&Object| object.kind() == kind && !present.contains(object);
    wanted.iter().filter(missing).cloned().collect()
}

fn read(socket: &mut Socket) -> Result<Vec<Object>> {
    netlink::objects(socket).map_err(Error::io("list addresses and routes"))
}

/// Whether there is an object in `all` that would replace `object`.
fn has(all: &[Object], object: &Object) -> bool {
    let identity = object.identity();
    all.iter().any(|other| other.kind() == object.kind() && other.identity() == identity)
}

/// Removes routes that the kernel made for new addresses although somebody has removed them on the
/// host, as CNI's `ptp` does.
fn remove_consequences(
    socket: &mut Socket,
    addresses: &[Object],
    present: &[Object],
    wanted: &[Object],
) {
    let touched: Vec<u32> = addresses.iter().flat_map(Object::interfaces).collect();
    let is_touched =
        |route: &&Object| route.interfaces().iter().any(|index| touched.contains(index));
    let consequences = present.iter().filter(|object| object.is_consequence());
    for route in consequences.filter(is_touched).filter(|route| !has(wanted, route)) {
        // It may be gone by itself.
        let _gone = route.remove(socket);
    }
}

/// Adds objects, near ones first. One that fails may need another of them: it is tried again as
/// long as others succeed.
fn add_all(socket: &mut Socket, mut missing: Vec<Object>) {
    missing.sort_by_key(Object::distance);
    loop {
        let mut failed = Vec::new();
        let tried = missing.len();
        for object in missing {
            if let Err(error) = object.add(socket) {
                failed.push((object, error));
            }
        }
        if failed.is_empty() || failed.len() == tried {
            for (object, error) in failed {
                log::warn!("{:?} {:02x?}: {error}", object.kind(), object.to_bytes());
            }
            return;
        }
        missing = failed.into_iter().map(|(object, _)| object).collect();
    }
}
