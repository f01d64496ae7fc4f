//! Which AppArmor profile a container has.

use protocol::cri::LinuxContainerSecurityContext;

use super::SpecError;
use super::error::shown;
use super::input::{AppArmor, Node, Runtime};
use super::profile::{self, Profile};

/// The default profile: containerd's, which distributions and our shim know by this name.
pub const DEFAULT_APPARMOR: &str = "cri-containerd.apparmor.d";

/// The profile's name; none to go without.
///
/// # Errors
/// One that was asked for can't be had.
pub(super) fn apparmor(
    context: &LinuxContainerSecurityContext,
    node: &Node,
    runtime: Runtime,
) -> Result<Option<String>, SpecError> {
    let what = "AppArmor";
    let bad = |reason: String| SpecError::Confinement { what, reason };
    #[allow(deprecated, reason = "kubelets before 1.30 say it there")]
    let text = &context.apparmor_profile;
    let asked = profile::read(what, context.apparmor.as_ref(), text)?;
    let Some(AppArmor { loaded, failed }) = &node.apparmor else {
        return match asked {
            None | Some(Profile::Unconfined) => Ok(None),
            Some(_) => Err(bad("apparmor is not supported on this node".to_owned())),
        };
    };
    match asked {
        Some(Profile::Unconfined) => Ok(None),
        Some(Profile::Localhost(name)) if name == "unconfined" || loaded.contains(&name) => {
            Ok(Some(name))
        }
        Some(Profile::Localhost(name)) => {
            Err(bad(format!("apparmor profile not found {}", shown(&name))))
        }
        None | Some(Profile::RuntimeDefault) if context.privileged => Ok(None),
        // The shim says which default it could not take along: the machine is the boundary.
        _ if runtime == Runtime::Machine || loaded.contains(DEFAULT_APPARMOR) => {
            Ok(Some(DEFAULT_APPARMOR.to_owned()))
        }
        // Whoever tried to load it has told.
        None => Ok(None),
        Some(Profile::RuntimeDefault) => {
            Err(bad(format!("the default profile {DEFAULT_APPARMOR} is not loaded: {failed}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::cri::SecurityProfile;

    use super::*;
    use crate::spec::tests::node;

    #[test]
    fn profile_depends_on_what_is_loaded() {
        let default = DEFAULT_APPARMOR;
        let machine = Runtime::Machine;
        let runc = Runtime::Runc;
        let name = |name: &str| Ok(Some(name.to_owned()));
        let error = |text: &str| Err(format!("AppArmor: {text}"));
        let not_loaded = "the default profile cri-containerd.apparmor.d is not loaded: no parser";
        for (loaded, asked, privileged, runtime, expected) in [
            (None, None, false, runc, Ok(None)),
            (None, Some((1, "")), false, runc, Ok(None)),
            (None, Some((0, "")), false, runc, error("apparmor is not supported on this node")),
            (None, Some((2, "p")), false, machine, error("apparmor is not supported on this node")),
            (Some(vec![default]), None, false, runc, name(default)),
            (Some(vec![default]), None, true, runc, Ok(None)),
            (Some(vec![default]), Some((0, "")), true, machine, Ok(None)),
            (Some(vec![]), None, false, runc, Ok(None)),
            (Some(vec![]), None, false, machine, name(default)),
            (Some(vec![]), Some((0, "")), false, runc, error(not_loaded)),
            (Some(vec!["p"]), Some((2, "localhost/p")), true, runc, name("p")),
            (
                Some(vec!["p"]),
                Some((2, "q")),
                false,
                machine,
                error("apparmor profile not found q"),
            ),
            (Some(vec!["p"]), Some((1, "")), false, machine, Ok(None)),
        ] {
            let mut node = node();
            node.apparmor = loaded.map(|list| AppArmor {
                loaded: list.into_iter().map(str::to_owned).collect(),
                failed: "no parser".to_owned(),
            });
            let asked = asked.map(|(profile_type, localhost_ref)| SecurityProfile {
                profile_type,
                localhost_ref: localhost_ref.to_owned(),
            });
            let context =
                LinuxContainerSecurityContext { apparmor: asked, privileged, ..Default::default() };
            let found = apparmor(&context, &node, runtime).map_err(|error| error.to_string());
            assert_eq!(found, expected, "{context:?}");
        }
    }
}
