//! `hostname`, `domainname` and `linux.sysctl`.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use super::failure::Context;
use crate::control::Failure;
use crate::oci::{NamespaceType, Spec};

/// Sets the names of a new UTS namespace; in a shared one they are not the container's to set.
pub(super) fn set_names(spec: &Spec) -> Result<(), Failure> {
    let own = spec.linux.namespace(NamespaceType::Uts).is_some();
    let named = !spec.hostname.is_empty() || !spec.domainname.is_empty();
    if named && !own {
        return Err(Failure::configuration("hostname needs a UTS namespace"));
    }
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes()).context("set hostname")?;
    }
    if !spec.domainname.is_empty() {
        rustix::system::setdomainname(spec.domainname.as_bytes()).context("set domainname")?;
    }
    Ok(())
}

/// Writes sysctls through the guest's /proc/sys, before the container's read-only view of it.
/// Namespaced ones change the namespaces that this process is in by now: for the agent, the
/// guest's own.
pub(crate) fn set_sysctls(sysctls: &BTreeMap<String, String>) -> Result<(), Failure> {
    for (name, value) in sysctls {
        let path = sysctl_path(name)
            .ok_or_else(|| Failure::configuration(format_args!("sysctl {name:?}: bad name")))?;
        std::fs::write(Path::new("/proc/sys").join(path), value).map_err(|error| {
            Failure::configuration(format_args!("sysctl {name}={value}: {error}"))
        })?;
    }
    Ok(())
}

/// `net.ipv4.conf.eth0/1.x` → `net/ipv4/conf/eth0.1/x`: as sysctl(8), the first separator
/// decides which one it is; the other stands for itself swapped.
fn sysctl_path(name: &str) -> Option<String> {
    let slashes_first = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('/'));
    let path: String = if slashes_first {
        name.to_owned()
    } else {
        let swapped = name.chars().map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        });
        swapped.collect()
    };
    let plain = Path::new(&path).components().all(|part| matches!(part, Component::Normal(_)));
    (plain && !path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::sysctl_path;

    #[test]
    fn names_become_paths_below_proc_sys() {
        assert_eq!(sysctl_path("kernel.shm_rmid_forced").unwrap(), "kernel/shm_rmid_forced");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/x").unwrap(), "net/ipv4/conf/eth0.1/x");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.x").unwrap(), "net/ipv4/conf/eth0.1/x");
        assert_eq!(sysctl_path("..//x"), None);
        assert_eq!(sysctl_path("/etc/passwd"), None);
        assert_eq!(sysctl_path("../../etc/passwd"), None);
        assert_eq!(sysctl_path(""), None);
    }
}
