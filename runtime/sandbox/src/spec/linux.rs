//! `linux` of a configuration (pure).

use std::collections::BTreeMap;

use api::{ContainerId, Error};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::Document;

/// Character devices that are the same in every Linux: memory devices (major 1), terminals (5),
/// and `/dev/net/tun` and `/dev/fuse` (10).
const COMMON_DEVICES: [i64; 3] = [1, 5, 10];

/// What of the resources names something of the host, and what it is called.
const OF_THE_HOST: [(&str, &str); 9] = [
    ("cpu/cpus", "cpuset cpus"),
    ("cpu/mems", "cpuset mems"),
    ("network", "resource network"),
    ("rdma", "resource rdma"),
    ("blockIO/weightDevice", "weightDevice"),
    ("blockIO/throttleReadBpsDevice", "throttleReadBpsDevice"),
    ("blockIO/throttleWriteBpsDevice", "throttleWriteBpsDevice"),
    ("blockIO/throttleReadIOPSDevice", "throttleReadIOPSDevice"),
    ("blockIO/throttleWriteIOPSDevice", "throttleWriteIOPSDevice"),
];

/// Takes out of `linux` what has a meaning on the host only.
///
/// # Errors
/// [`Error::Invalid`] when it asks for what can't be given.
pub(super) fn translate(
    spec: &mut Document,
    container: &ContainerId,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    if spec.text("/linux/seccomp/listenerPath")?.is_some() {
        let reason = "seccomp notification (listenerPath) can't reach from a guest to the host";
        return Err(Error::Invalid(reason.into()));
    }
    spec.set("/linux/cgroupsPath", format!("/cuddy/{container}"))?;
    for (path, name) in
        [("/linux/mountLabel", "SELinux mount label"), ("/linux/intelRdt", "Intel RDT class")]
    {
        if spec.remove(path) {
            notes.push(format!("{name} is not applied in the guest"));
        }
    }
    spec.retain("/linux/devices", |_, device| Ok(keep_device(device, notes)))?;
    translate_resources(spec, notes)
}

fn keep_device(device: &LinuxDevice, notes: &mut Vec<String>) -> bool {
    let keep = match device.typ() {
        // Disks are attached, and get the guest's numbers.
        LinuxDeviceType::P | LinuxDeviceType::B => true,
        LinuxDeviceType::C | LinuxDeviceType::U => COMMON_DEVICES.contains(&device.major()),
        LinuxDeviceType::A => false,
    };
    if !keep {
        notes.push(format!("device {:?} of the host is not passed to the guest", device.path()));
    }
    keep
}

/// Takes out of the resources what names the host's CPUs, memory nodes and devices.
///
/// # Errors
/// [`Error::Invalid`] when `unified` holds something else than texts.
pub(crate) fn translate_resources(
    spec: &mut Document,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    for (path, name) in OF_THE_HOST {
        if spec.remove(&format!("/linux/resources/{path}")) {
            notes.push(format!("{name} of the host is not applied in the guest"));
        }
    }
    spec.edit("/linux/resources/unified", |unified: &mut BTreeMap<String, String>| {
        unified.retain(|key, _| {
            let of_cpus = key.starts_with("cpuset.");
            if of_cpus {
                notes.push(format!("unified {key} of the host is not applied in the guest"));
            }
            !of_cpus
        });
    })
}
