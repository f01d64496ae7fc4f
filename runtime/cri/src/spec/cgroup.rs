//! Where a container's cgroup is.

use std::path::PathBuf;

use super::SpecError;
use super::error::shown;
use super::input::CgroupDriver;

/// Begins the names of systemd's scopes.
const PREFIX: &str = "cuddy";

/// `linux.cgroupsPath` of `id` below the pod's cgroup: `slice:prefix:name` for systemd, else a path.
///
/// # Errors
/// The pod's cgroup is none that the driver could make one in.
pub(super) fn path(parent: &str, id: &str, driver: CgroupDriver) -> Result<PathBuf, SpecError> {
    let bad = |reason: &str| SpecError::Resource {
        name: "cgroup_parent".to_owned(),
        reason: format!("\"{}\": {reason}", shown(parent)),
    };
    if parent.split('/').any(|part| part == "..") || parent.contains('\0') {
        return Err(bad("it leads elsewhere"));
    }
    let parent = parent.trim_end_matches('/');
    let last = parent.rsplit('/').next().unwrap_or_default();
    Ok(match driver {
        CgroupDriver::Systemd if parent.is_empty() => format!("system.slice:{PREFIX}:{id}"),
        CgroupDriver::Systemd if last.ends_with(".slice") && !last.contains(':') => {
            format!("{last}:{PREFIX}:{id}")
        }
        CgroupDriver::Systemd => {
            return Err(bad("no slice, and the node's cgroups are made by systemd"));
        }
        CgroupDriver::Cgroupfs if parent.is_empty() => format!("/{PREFIX}/{id}"),
        CgroupDriver::Cgroupfs => format!("/{}/{id}", parent.trim_start_matches('/')),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_in_the_drivers_form() {
        use CgroupDriver::{Cgroupfs, Systemd};
        for (parent, driver, expected) in [
            ("/kubepods.slice/kubepods-pod1.slice", Systemd, "kubepods-pod1.slice:cuddy:id"),
            ("/test.slice/", Systemd, "test.slice:cuddy:id"),
            ("", Systemd, "system.slice:cuddy:id"),
            ("/kubepods/pod1", Cgroupfs, "/kubepods/pod1/id"),
            ("kubepods/pod1/", Cgroupfs, "/kubepods/pod1/id"),
            ("", Cgroupfs, "/cuddy/id"),
            ("/", Cgroupfs, "/cuddy/id"),
            ("/a.slice", Cgroupfs, "/a.slice/id"),
        ] {
            assert_eq!(path(parent, "id", driver), Ok(expected.into()), "{parent}");
        }
        for (parent, driver) in
            [("/kubepods/pod1", Systemd), ("a:b.slice", Systemd), ("/a/../b", Cgroupfs)]
        {
            let error = path(parent, "id", driver).unwrap_err().to_string();
            assert!(error.starts_with("resource cgroup_parent: \""), "{error}");
        }
    }
}
