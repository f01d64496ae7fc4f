//! Any request of the interface and any image, for a fuzzer. An input is a byte that says how the
//! node is, and a `CreateContainerRequest` that has the image's configuration as its first text.
//!
//! Checked besides panics:
//! - Texts for people are short and do nothing to a terminal.
//! - A configuration is the same once it was written and read again.
//! - It names no path of the host but those that the request or the caller names.
//! - A process gets no NUL, and root only if somebody asked for root.
//! - What a container has comes back as the limits that it has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use api::image_volume;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{LinuxDeviceType, LinuxResources, Spec};
use prost::Message;
use protocol::cri::{ContainerConfig, CreateContainerRequest};

use super::mounts::absolute;
use super::{
    Accounts, AppArmor, CgroupDriver, ContainerInput, ContainerSpec, DeviceNode, Found,
    HandlerConfig, ImagePlace, ImageVolume, Node, PodPaths, Propagation, Runtime, SandboxInput,
    Source, SpecError,
};

/// Most bytes of a text for people.
const LONGEST: usize = 2048;

/// Whatever begins so was handed in by the caller.
const FOUND: &str = "/found/";

/// Sources of mounts that are none of the host's files, and two that are asked for by name.
const KERNEL: [&str; 9] =
    ["proc", "tmpfs", "devpts", "shm", "mqueue", "sysfs", "cgroup", "/sys", "/dev/shm"];

/// Runs one input; how many configurations were made of it, 2 at most.
///
/// # Panics
/// Something that is checked is wrong.
pub fn run(input: &[u8]) -> usize {
    let Some((&bits, rest)) = input.split_first() else { return 0 };
    let Ok(request) = CreateContainerRequest::decode(rest) else { return 0 };
    let mut made = 0;
    let image: ImageConfiguration =
        serde_json::from_str(&request.pod_sandbox_id).unwrap_or_default();
    let container = request.config.unwrap_or_default();
    let pod = request.sandbox_config.unwrap_or_default();
    let (handler, node) = (handler(bits), node(bits));
    let config = image.config().clone().unwrap_or_default();
    let found = found(bits, &container, super::volumes_of_image(&config, &container));
    let paths = PodPaths {
        hosts: Some("/found/hosts".into()),
        shm: bit(bits, 6).then(|| "/found/shm".into()),
        ..PodPaths::default()
    };
    let input = ContainerInput {
        pod: &pod,
        pod_id: "p1",
        pod_pid: 7,
        container: &container,
        container_id: "c1",
        target_pid: bit(bits, 7).then_some(9),
        image: &image,
        paths: &paths,
        handler: &handler,
        node: &node,
        found: &found,
    };
    if let Some(spec) = checked(super::container(&input)) {
        of_container(&input, &spec);
        made += 1;
    }
    let input = SandboxInput {
        pod: &pod,
        pod_id: "p1",
        network: bit(bits, 7).then_some("/found/netns"),
        users: None,
        image: &image,
        image_name: "pause",
        paths: &paths,
        handler: &handler,
        node: &node,
        seccomp_profile: None,
        accounts: found.accounts.as_ref(),
    };
    if let Some(spec) = checked(super::sandbox(&input)) {
        sources(&spec, &BTreeSet::new());
        made += 1;
    }
    if let Ok((signal, note)) = super::stop_signal(&container, &config) {
        assert!((1..=64).contains(&signal.number()));
        note.iter().for_each(|note| harmless(note));
    }
    made
}

fn bit(bits: u8, number: u8) -> bool {
    bits & (1 << number) != 0
}

fn handler(bits: u8) -> HandlerConfig {
    let runtime = if bit(bits, 0) { Runtime::Machine } else { Runtime::Runc };
    let mut handler = HandlerConfig::new(runtime);
    handler.recursive_read_only = bit(bits, 1);
    handler.user_namespaces = !bit(bits, 2);
    handler
}

fn node(bits: u8) -> Node {
    let driver = if bit(bits, 3) { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
    Node {
        hostname: "node-1".to_owned(),
        cgroup_driver: driver,
        cgroup_namespaces: !bit(bits, 4),
        swap: bit(bits, 4),
        hugetlb: bit(bits, 4),
        seccomp: !bit(bits, 5),
        apparmor: bit(bits, 5).then(AppArmor::default),
        last_capability: 40,
        cgroup_options: Vec::new(),
    }
}

/// The host has all that was asked for.
fn found(bits: u8, container: &ContainerConfig, volumes: Vec<String>) -> Found {
    let mut found = Found { seccomp_profile: Some(container.log_path.clone()), ..Found::default() };
    let path = PathBuf::from("/found/x");
    for mount in container.mounts.iter().filter(|_| bit(bits, 5)) {
        let source = Source { path: path.clone(), propagation: Propagation::Shared };
        found.sources.insert(mount.host_path.clone(), source);
    }
    for mount in &container.mounts {
        let image = mount.image.as_ref().map_or("", |image| &image.image).to_owned();
        let sub_path = mount.image_sub_path.clone();
        let place = match bit(bits, 5) {
            true => ImagePlace::Host(path.clone()),
            false => ImagePlace::Layers(vec![path.clone()]),
        };
        found.image_volumes.push(ImageVolume { image, sub_path, place: Ok(place) });
    }
    for device in &container.devices {
        let node = DeviceNode {
            below: PathBuf::new(),
            kind: LinuxDeviceType::C,
            major: 1,
            minor: 3,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        found.devices.insert(device.host_path.clone(), vec![node]);
    }
    found.volumes = volumes.into_iter().map(|volume| (volume, path.clone())).collect();
    let file = container.working_dir.as_bytes().to_vec();
    found.accounts = bit(bits, 6).then(|| Accounts { passwd: file.clone(), group: file });
    found
}

/// What holds for every configuration and every error.
fn checked(made: Result<ContainerSpec, SpecError>) -> Option<Spec> {
    let made = made.inspect_err(|error| harmless(&error.to_string())).ok()?;
    made.notes.iter().for_each(|note| harmless(note));
    let json = serde_json::to_string(&made.spec).unwrap_or_default();
    let back: Option<Spec> = serde_json::from_str(&json).ok();
    assert_eq!(back.as_ref(), Some(&made.spec), "written and read again");
    let process = made.spec.process().as_ref()?;
    let texts = process.args().iter().chain(process.env()).flatten();
    assert!(texts.into_iter().all(|text| !text.contains('\0')), "a NUL");
    let linux = made.spec.linux().as_ref()?;
    let cgroup = linux.cgroups_path().clone().unwrap_or_default();
    assert!(cgroup.components().all(|part| part.as_os_str() != ".."), "{cgroup:?}");
    for namespace in linux.namespaces().iter().flatten() {
        let path = namespace.path().clone().unwrap_or_default();
        let known = ["", "/proc/7/ns", "/proc/9/ns", "/found"];
        let parent = path.parent().unwrap_or(Path::new(""));
        assert!(known.iter().any(|known| parent == Path::new(known)), "{path:?}");
    }
    Some(made.spec)
}

fn of_container(input: &ContainerInput<'_>, spec: &Spec) {
    let asked = input.container.mounts.iter().filter_map(|mount| absolute(&mount.host_path));
    sources(spec, &asked.collect());
    let linux = input.container.linux.clone().unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let process = spec.process().as_ref();
    let user = process.map(|process| process.user().clone()).unwrap_or_default();
    // Somebody who is named is root only by the image's own list of users.
    let named =
        context.run_as_username.parse::<i64>().is_err() && !context.run_as_username.is_empty();
    let listed = input.found.accounts.is_some() && input.handler.runtime == Runtime::Runc;
    assert!(!named || listed || user.uid() != 0, "{:?}", context.run_as_username);
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    let mut resources = resources.unwrap_or_default();
    resources.set_devices(None);
    let mut again = LinuxResources::default();
    let now = super::status(&resources, None);
    let applied = super::apply(&mut again, &now, input.node);
    assert!(applied.is_ok() && super::status(&again, None) == now, "{now:?}");
}

/// Whether a configuration names no path of the host that was not in the input.
fn sources(spec: &Spec, asked: &BTreeSet<PathBuf>) {
    for mount in spec.mounts().iter().flatten() {
        let place = mount.destination();
        assert!(place.is_absolute() && place.parent().is_some(), "{place:?}");
        if mount.typ().as_deref() == Some(image_volume::TYPE) {
            let told =
                image_volume::ImageVolume::take(&mut mount.options().clone().unwrap_or_default());
            assert!(told.layers.iter().all(|layer| layer.starts_with(FOUND)), "{told:?}");
            continue;
        }
        let source = mount.source().clone().unwrap_or_default();
        let known = KERNEL.iter().any(|known| source == Path::new(known));
        assert!(known || source.starts_with(FOUND) || asked.contains(&source), "{source:?}");
    }
}

fn harmless(text: &str) {
    assert!(text.len() <= LONGEST, "{} bytes of text", text.len());
    assert!(!text.chars().any(char::is_control), "text that acts: {text:?}");
}

#[cfg(test)]
mod tests;
