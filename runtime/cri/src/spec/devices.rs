//! Devices of the host that a container gets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup};
use protocol::cri::{ContainerConfig, Device};

use super::SpecError;
use super::error::shown;
use super::input::{ContainerInput, DeviceNode, Runtime};
use super::mounts::absolute;

/// A container's devices, and the rules of its device cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Devices {
    pub(super) nodes: Vec<LinuxDevice>,
    pub(super) rules: Vec<LinuxDeviceCgroup>,
}

impl Devices {
    /// No device but those that every container has.
    pub(super) fn none() -> Self {
        Self { nodes: Vec::new(), rules: vec![every(false)] }
    }
}

/// The devices that a container asks for, or all of the host if it is privileged.
///
/// # Errors
/// [`SpecError::Device`]: one is not there, or is asked for by a name that nobody resolves.
pub(super) fn devices(input: &ContainerInput<'_>, privileged: bool) -> Result<Devices, SpecError> {
    no_cdi(input.container)?;
    let mut devices = Devices::none();
    for asked in &input.container.devices {
        let found = input.found.devices.get(&asked.host_path).filter(|found| !found.is_empty());
        let found = found.ok_or_else(|| bad(&asked.host_path, "not there, or no device"))?;
        for node in found {
            add(&mut devices, asked, node)?;
        }
    }
    if privileged {
        devices.rules = vec![every(true)];
    }
    let all = privileged && input.handler.privileged_with_devices;
    if all && input.handler.runtime == Runtime::Runc {
        let of_host = input.found.host_devices.iter();
        let of_host = of_host.map(|node| device(node, Path::new("/").join(&node.below)));
        let asked: BTreeSet<_> = devices.nodes.iter().map(|node| node.path().clone()).collect();
        devices.nodes.extend(of_host.filter(|node| !asked.contains(node.path())));
    }
    Ok(devices)
}

/// Devices by the Container Device Interface, whose files nobody reads yet.
fn no_cdi(container: &ContainerConfig) -> Result<(), SpecError> {
    let fields = container.cdi_devices.iter().map(|device| device.name.as_str());
    let annotations = container.annotations.iter();
    let annotations = annotations.filter(|(key, _)| key.starts_with("cdi.k8s.io/"));
    let names: Vec<_> = fields.chain(annotations.map(|(_, name)| name.as_str())).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(bad(&names.join(", "), "devices by CDI are not supported yet"))
}

fn add(devices: &mut Devices, asked: &Device, node: &DeviceNode) -> Result<(), SpecError> {
    let name =
        if asked.container_path.is_empty() { &asked.host_path } else { &asked.container_path };
    let path = absolute(name).ok_or_else(|| bad(name, "no absolute path"))?;
    let access = &asked.permissions;
    if access.is_empty() || !access.chars().all(|letter| "rwm".contains(letter)) {
        return Err(bad(name, "its permissions are not some of \"rwm\""));
    }
    let outside =
        node.below.is_absolute() || node.below.components().any(|part| part.as_os_str() == "..");
    if outside {
        return Err(bad(name, "a device in it is elsewhere"));
    }
    let path = if node.below.as_os_str().is_empty() { path } else { path.join(&node.below) };
    let mut rule = every(true);
    rule.set_typ(Some(node.kind)).set_major(Some(node.major)).set_minor(Some(node.minor));
    rule.set_access(Some(access.clone()));
    devices.nodes.push(device(node, path));
    devices.rules.push(rule);
    Ok(())
}

fn device(node: &DeviceNode, path: PathBuf) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    device.set_path(path).set_typ(node.kind).set_major(node.major).set_minor(node.minor);
    device.set_file_mode(Some(node.mode)).set_uid(Some(node.uid)).set_gid(Some(node.gid));
    device
}

/// The rule about every device.
fn every(allow: bool) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_access(Some("rwm".to_owned()));
    rule
}

fn bad(name: &str, reason: &str) -> SpecError {
    SpecError::Device { name: shown(name), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxDeviceType;
    use protocol::cri::CdiDevice;

    use super::*;
    use crate::spec::tests::Case;

    fn node(below: &str, minor: i64) -> DeviceNode {
        let kind = LinuxDeviceType::C;
        let below = below.into();
        DeviceNode { below, kind, major: 10, minor, mode: 0o660, uid: 0, gid: 5 }
    }

    fn asked(host_path: &str, container_path: &str, permissions: &str) -> Device {
        let [host_path, container_path, permissions] =
            [host_path, container_path, permissions].map(str::to_owned);
        Device { container_path, host_path, permissions }
    }

    #[test]
    fn device_and_its_rule_are_the_hosts() {
        let mut case = Case::new(Runtime::Runc);
        case.container.devices =
            vec![asked("/dev/kvm", "", "rw"), asked("/dev/snd", "/dev/audio/", "r")];
        case.found.devices.insert("/dev/kvm".to_owned(), vec![node("", 232)]);
        case.found.devices.insert("/dev/snd".to_owned(), vec![node("pcm/1", 3)]);
        let found = devices(&case.input(), false).unwrap();
        let paths: Vec<_> = found.nodes.iter().map(|node| node.path().to_str().unwrap()).collect();
        assert_eq!(paths, ["/dev/kvm", "/dev/audio/pcm/1"]);
        let rule = |rule: &LinuxDeviceCgroup| rule.to_string();
        let rules: Vec<_> = found.rules.iter().map(rule).collect();
        assert_eq!(rules.len(), 3);
        assert!(!found.rules[0].allow() && found.rules[1].minor() == Some(232), "{rules:?}");
        assert_eq!(found.rules[2].access().as_deref(), Some("r"));
        assert_eq!(found.nodes[0].file_mode(), Some(0o660));
    }

    #[test]
    fn privileged_container_has_the_devices_of_the_node_under_runc_only() {
        for (runtime, with, count) in
            [(Runtime::Runc, true, 1), (Runtime::Runc, false, 0), (Runtime::Machine, true, 0)]
        {
            let mut case = Case::new(runtime);
            case.handler.privileged_with_devices = with;
            case.found.host_devices = vec![node("dev/kvm", 232)];
            let found = devices(&case.input(), true).unwrap();
            assert_eq!(found.nodes.len(), count);
            assert!(found.rules.len() == 1 && found.rules[0].allow());
            assert!(found.nodes.iter().all(|node| node.path() == Path::new("/dev/kvm")));
        }
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        for (device, below, reason) in [
            (asked("/dev/gone", "", "r"), None, "device \"/dev/gone\": not there"),
            (asked("/dev/a", "x", "r"), Some(""), "device \"x\": no absolute path"),
            (asked("/dev/a", "", "rx"), Some(""), "its permissions"),
            (asked("/dev/a", "", ""), Some(""), "its permissions"),
            (asked("/dev/a", "", "r"), Some("../b"), "elsewhere"),
        ] {
            let mut case = Case::new(Runtime::Runc);
            if let Some(below) = below {
                case.found.devices.insert(device.host_path.clone(), vec![node(below, 1)]);
            }
            case.container.devices = vec![device];
            let error = devices(&case.input(), false).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let mut case = Case::new(Runtime::Runc);
        case.container.cdi_devices = vec![CdiDevice { name: "vendor.com/gpu=0".to_owned() }];
        case.container.annotations.insert("cdi.k8s.io/x".to_owned(), "vendor.com/gpu=1".to_owned());
        let error = devices(&case.input(), false).unwrap_err().to_string();
        assert!(error.contains("\"vendor.com/gpu=0, vendor.com/gpu=1\""), "{error}");
    }
}
