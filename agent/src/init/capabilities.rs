//! `process.capabilities`: the five sets of capabilities(7).

use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

use super::failure::Context;
use crate::control::{Failure, Order};
use crate::oci::capability::number;
use crate::oci::process::Capabilities;

/// Capabilities that names stand for. Unknown names are ignored, as the specification wants of a
/// runtime on a kernel without them; the agent logs them.
fn set_of(names: &[String]) -> CapabilitySet {
    let known = names.iter().filter_map(|name| number(name)).map(single);
    known.fold(CapabilitySet::empty(), CapabilitySet::union)
}

fn single(number: usize) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << number)
}

/// What a process is to have. As with runc, an exec that states nothing has what its container
/// has, and a container that states nothing has none: no capability is ever left over.
pub(super) fn of(order: &Order) -> Capabilities {
    let container = order.spec.process.as_ref().and_then(|process| process.capabilities.as_ref());
    let stated = order.process.capabilities.as_ref().or(container.filter(|_| order.join));
    stated.cloned().unwrap_or_default()
}

/// Limits what this process and its descendants can ever have; while still privileged.
pub(super) fn limit_bounding(capabilities: &Capabilities) -> Result<(), Failure> {
    let wanted = set_of(&capabilities.bounding);
    for capability in (0..64).map(single) {
        if wanted.contains(capability) {
            continue;
        }
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)
                .context("limit the bounding set of capabilities")?,
            Ok(false) => {}
            // The first number that this kernel does not know.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Sets the other four sets; as the container's user.
pub(super) fn set(capabilities: &Capabilities) -> Result<(), Failure> {
    let sets = CapabilitySets {
        effective: set_of(&capabilities.effective),
        permitted: set_of(&capabilities.permitted),
        inheritable: set_of(&capabilities.inheritable),
    };
    set_capabilities(None, sets)
        .map_err(|error| Failure::configuration(format_args!("set capabilities: {error}")))?;
    clear_ambient_capability_set().context("clear ambient capabilities")?;
    for capability in set_of(&capabilities.ambient).iter() {
        configure_capability_in_ambient_set(capability, true).map_err(|error| {
            Failure::configuration(format_args!("set ambient capability: {error}"))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Capabilities, CapabilitySet, of, set_of};
    use crate::control::Order;
    use crate::oci::capability::NAMES;
    use crate::oci::{Process, Spec};

    fn bounding(join: bool, container: Option<&str>, exec: Option<&str>) -> Vec<String> {
        let process = |bounding: Option<&str>| Process {
            capabilities: bounding.map(|name| Capabilities {
                bounding: vec![name.to_owned()],
                ..Capabilities::default()
            }),
            ..Process::default()
        };
        let spec = Spec { process: Some(process(container)), ..Spec::default() };
        let order = Order {
            container_id: "c".to_owned(),
            spec: Box::new(spec),
            process: Box::new(process(exec)),
            filter: None,
            cgroup: "/".into(),
            join,
        };
        of(&order).bounding
    }

    #[test]
    fn nothing_is_left_over_where_nothing_is_stated() {
        assert!(bounding(false, None, None).is_empty());
        assert!(bounding(true, None, None).is_empty());
        assert_eq!(bounding(true, Some("CAP_KILL"), None), ["CAP_KILL"]);
        assert_eq!(bounding(true, Some("CAP_KILL"), Some("CAP_CHOWN")), ["CAP_CHOWN"]);
    }

    #[test]
    fn names_have_the_kernels_numbers() {
        assert_eq!(set_of(&["CAP_SYS_ADMIN".to_owned()]), CapabilitySet::SYS_ADMIN);
        assert_eq!(set_of(&["cap_chown".to_owned()]), CapabilitySet::empty());
        assert_eq!(set_of(&["CHOWN".to_owned()]), CapabilitySet::CHOWN);
        let all: Vec<String> = NAMES.iter().map(|name| format!("CAP_{name}")).collect();
        assert_eq!(set_of(&all).bits(), (1 << NAMES.len()) - 1);
        assert_eq!(set_of(&["CAP_CHECKPOINT_RESTORE".to_owned()]).bits(), 1 << 40);
    }

    #[test]
    fn unknown_names_are_ignored() {
        assert_eq!(set_of(&["CAP_FLY".to_owned()]), CapabilitySet::empty());
    }
}
