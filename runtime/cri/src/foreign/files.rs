//! A foreign pod's files, in its bundle: what its containers have at `/etc/hostname`, `/etc/hosts`,
//! `/etc/resolv.conf` and `/dev/shm`.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use protocol::cri::{DnsConfig, NamespaceMode, PodSandboxConfig};
use rustix::mount::{MountFlags, mount};

use crate::fault::{Fault, blocking};
use crate::spec::PodPaths;

/// What is mounted in a bundle: a container's root, a pod's shared memory.
const MOUNTS: [&str; 2] = ["rootfs", "shm"];

/// The directory in a bundle that has a container's image volumes, each in one of its own.
const VOLUMES: &str = "volumes";

/// Where the image volume of this number is in a container's bundle (pure).
pub(crate) fn image_volume(bundle: &Path, number: usize) -> PathBuf {
    bundle.join(VOLUMES).join(number.to_string())
}

/// As containerd has it.
const SHM: &std::ffi::CStr = c"mode=1777,size=64m";

/// The paths in a pod's bundle (pure).
pub(crate) fn paths(bundle: &Path) -> PodPaths {
    let at = |name: &str| Some(bundle.join(name));
    PodPaths {
        hostname: at("hostname"),
        hosts: at("hosts"),
        resolv_conf: at("resolv.conf"),
        shm: at("shm"),
    }
}

/// Makes the files of a pod on a node of this name.
///
/// # Errors
/// [`Fault::Internal`] with the bundle.
pub(crate) async fn make(
    bundle: &Path,
    pod: &PodSandboxConfig,
    node: &str,
) -> Result<PodPaths, Fault> {
    let own = if pod.hostname.is_empty() { node } else { &pod.hostname };
    let (hostname, dns) = (format!("{own}\n"), pod.dns_config.clone());
    let context = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = context.and_then(|context| context.namespace_options.as_ref());
    let node_ipc = options.is_some_and(|options| options.ipc == i32::from(NamespaceMode::Node));
    let at = bundle.to_owned();
    let made = blocking("making a pod's files", move || {
        let of_node = |name: &str| std::fs::read(Path::new("/etc").join(name)).unwrap_or_default();
        let dns = dns.filter(|dns| *dns != DnsConfig::default());
        let resolv = dns.map_or_else(|| of_node("resolv.conf"), |dns| resolv(&dns).into_bytes());
        write(&at.join("hostname"), hostname.as_bytes())?;
        write(&at.join("hosts"), &of_node("hosts"))?;
        write(&at.join("resolv.conf"), &resolv)?;
        std::fs::create_dir_all(at.join("shm"))?;
        if !node_ipc {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("shm", at.join("shm"), "tmpfs", flags, SHM)?;
        }
        io::Result::Ok(())
    });
    made.await?.map_err(|error| {
        Fault::Internal(format!("making the pod's files in {}: {error}", bundle.display()))
    })?;
    Ok(paths(bundle))
}

/// Unmounts what is mounted in a bundle. Only then its files may be removed.
///
/// # Errors
/// [`Fault::Internal`] with the path.
pub(crate) async fn unmount(bundle: &Path) -> Result<(), Fault> {
    let bundle = bundle.to_owned();
    let done = blocking("unmounting", move || {
        let volumes = std::fs::read_dir(bundle.join(VOLUMES)).into_iter().flatten().flatten();
        let volumes = volumes.map(|volume| volume.path());
        let mut mounts = MOUNTS.iter().map(|name| bundle.join(name)).chain(volumes);
        mounts.try_for_each(|at| overlay::unmount(&at))
    });
    done.await?.map_err(|error| Fault::Internal(error.to_string()))
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// resolv.conf(5) as a pod wants it (pure).
fn resolv(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    dns.servers.iter().for_each(|server| text.push_str(&format!("nameserver {server}\n")));
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_as_the_pod_wants() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let dns = DnsConfig {
            servers: list(&["192.0.2.1", "192.0.2.2"]),
            searches: list(&["a.b", "b"]),
            options: list(&["ndots:5"]),
        };
        let expected =
            "search a.b b\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions ndots:5\n";
        assert_eq!(resolv(&dns), expected);
    }
}
