//! Who a container's process is, for its status.

use oci_spec::runtime::Spec;
use protocol::cri::LinuxContainerUser;
use shim_client::Shim;

use crate::fault::Fault;

/// Who the process of a container is that was created. A configuration without names says so itself;
/// where the guest has looked names up, its shim is asked.
///
/// # Errors
/// What the shim said, or that it does not say.
pub(super) async fn told(shim: &Shim, id: &str, spec: &Spec) -> Result<LinuxContainerUser, Fault> {
    let user = spec.process().as_ref().map(|process| process.user().clone()).unwrap_or_default();
    if user.username().is_none() {
        let groups = user.additional_gids().as_deref().unwrap_or_default();
        return Ok(message(user.uid(), user.gid(), groups));
    }
    let listed = shim.own().list().await?.containers;
    let own = listed.into_iter().find(|listed| listed.id.as_str() == id);
    let user = own.and_then(|own| own.user).ok_or_else(|| {
        Fault::Internal(format!("the shim does not say who the process of container {id} is"))
    })?;
    Ok(message(user.uid, user.gid, &user.groups))
}

fn message(uid: u32, gid: u32, groups: &[u32]) -> LinuxContainerUser {
    let supplemental_groups = groups.iter().copied().map(i64::from).collect();
    LinuxContainerUser { uid: uid.into(), gid: gid.into(), supplemental_groups }
}
