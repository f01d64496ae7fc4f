//! The interface's words for a container → its OCI configuration (pure). Whoever calls has asked
//! the host before, see [`ContainerInput`], and does afterwards what the shim is told.
//!
//! The answers are those of containerd's plug-in for the interface. Where they are not, and why, is
//! in `docs/decisions/cri-to-oci.md`.

mod annotations;
mod apparmor;
mod capabilities;
mod cgroup;
mod devices;
mod document;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod input;
mod mounts;
mod namespaces;
mod process;
mod profile;
mod refusal;
mod resources;
mod sandbox;
mod seccomp;
mod stop_signal;
mod user;

use std::path::PathBuf;

use oci_spec::image::Config;
use oci_spec::runtime::{Linux, LinuxResources, Process, Root, Spec};
use protocol::cri::{
    LinuxContainerConfig, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, SeLinuxOption,
};

pub use accounts::{Files as Accounts, GROUPS};
pub use apparmor::DEFAULT_APPARMOR;
pub use error::SpecError;
pub use input::{
    AppArmor, CgroupDriver, ContainerInput, DeviceNode, Found, HandlerConfig, ImagePlace,
    ImageVolume, Node, PodPaths, Propagation, Runtime, SandboxInput, Source,
};
pub use mounts::volumes_of_image;
pub use refusal::{needs_node, refusal};
pub use resources::{apply, status};
pub use sandbox::sandbox;
pub use stop_signal::{StopSignal, stop_signal};

/// Where a bundle has the root file system.
const ROOT: &str = "rootfs";

/// A configuration, ready for `config.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The configuration.
    pub spec: Spec,
    /// What was left out, a line each for the log.
    pub notes: Vec<String>,
}

/// Makes the configuration of a container.
///
/// # Errors
/// [`SpecError`] says what of the request can't be carried out.
pub fn container(input: &ContainerInput<'_>) -> Result<ContainerSpec, SpecError> {
    let ContainerInput { pod, container, handler, .. } = *input;
    if let Some(reason) = refusal(handler.runtime, pod, Some(container)) {
        return Err(SpecError::Refused(reason));
    }
    let image = input.image.config().clone().unwrap_or_default();
    let linux = container.linux.clone().unwrap_or_default();
    let context = linux.security_context.clone().unwrap_or_default();
    let mut notes: Vec<_> = selinux(context.selinux_options.as_ref()).into_iter().collect();
    let mut annotations = annotations::of_container(pod, input.pod_id, container, handler);

    let request = user::request(&context, image.user().as_deref().unwrap_or_default())?;
    let (user, groups) = user::user(&request, handler.runtime, input.found.accounts.as_ref())?;
    annotations.extend(groups.map(|groups| (GROUPS.to_owned(), groups.to_owned())));
    let mut process = process(input, &image, &context, &mut notes)?;
    process.set_user(user);
    if let Some(asked) = &linux.resources {
        process.set_oom_score_adj(Some(resources::oom_score_adj(asked)?));
    }

    let mut oci = confined(input, &context, &process)?;
    let access = namespaces(input, &context, &mut oci)?;
    let users = context.namespace_options.as_ref().and_then(|own| own.userns_options.as_ref());
    let users = users.map(|users| (users.uids.as_slice(), users.gids.as_slice()));
    let (mounts, propagation) = mounts::of_container(input, &image, access, users)?;
    oci.set_rootfs_propagation(propagation.map(str::to_owned));
    limits(input, &linux, &mut oci, &mut notes)?;

    let mut root = Root::default();
    root.set_path(PathBuf::from(ROOT)).set_readonly(Some(context.readonly_rootfs));
    let mut spec = document::spec(process, root, oci);
    spec.set_mounts(Some(mounts)).set_annotations(Some(annotations));
    Ok(ContainerSpec { spec, notes })
}

/// Whether a handler can make a pod, before anything of it is made.
///
/// # Errors
/// What of the pod it can't be.
pub fn check_pod(pod: &PodSandboxConfig, handler: &HandlerConfig) -> Result<(), SpecError> {
    if let Some(reason) = refusal(handler.runtime, pod, None) {
        return Err(SpecError::Refused(reason));
    }
    let context = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = context.and_then(|context| context.namespace_options.as_ref());
    let users = options.and_then(|options| options.userns_options.as_ref());
    namespaces::users(users, handler).map(drop)
}

/// Whether a pod has a network of its own: not that of the node.
pub fn has_network(pod: &PodSandboxConfig) -> bool {
    let context = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = context.and_then(|context| context.namespace_options.as_ref());
    options.is_none_or(|options| options.network != i32::from(NamespaceMode::Node))
}

/// The path of the seccomp profile on the node that a container asks for: the caller reads it.
///
/// # Errors
/// The profile is not named as one can be.
pub fn localhost_seccomp(
    context: &LinuxContainerSecurityContext,
) -> Result<Option<String>, SpecError> {
    seccomp::localhost(&asked_filter(context, None))
}

fn asked_filter<'a>(
    context: &'a LinuxContainerSecurityContext,
    content: Option<&'a str>,
) -> seccomp::Request<'a> {
    seccomp::Request {
        profile: context.seccomp.as_ref(),
        #[allow(deprecated, reason = "kubelets before 1.30 say it there")]
        text: &context.seccomp_profile_path,
        privileged: context.privileged,
        content,
    }
}

/// The name that a pod's processes see.
fn hostname<'a>(pod: &'a PodSandboxConfig, node: &'a Node) -> &'a str {
    if pod.hostname.is_empty() { &node.hostname } else { &pod.hostname }
}

/// The process, but for its user.
fn process(
    input: &ContainerInput<'_>,
    image: &Config,
    context: &LinuxContainerSecurityContext,
    notes: &mut Vec<String>,
) -> Result<Process, SpecError> {
    let container = input.container;
    let args = process::args(container, image)?;
    let of_image = process::list(image.env());
    let hostname = hostname(input.pod, input.node);
    let env = process::env(hostname, container.tty, of_image, &container.envs)?;
    let directory = process::directory(&container.working_dir, image)?;
    let mut process = document::process(args, env, directory);
    let last = match input.handler.runtime {
        Runtime::Machine => usize::MAX,
        Runtime::Runc => input.node.last_capability,
    };
    let (held, unknown) = capabilities::capabilities(context, last);
    notes.extend(unknown);
    process.set_capabilities(Some(held)).set_terminal(Some(container.tty));
    process.set_console_size(process::terminal_size(container));
    process.set_no_new_privileges(Some(context.no_new_privs));
    let profile = apparmor::apparmor(context, input.node, input.handler.runtime)?;
    process.set_apparmor_profile(profile);
    Ok(process)
}

/// What the process is kept from. A privileged one is kept from nothing.
fn confined(
    input: &ContainerInput<'_>,
    context: &LinuxContainerSecurityContext,
    process: &Process,
) -> Result<Linux, SpecError> {
    let held = process.capabilities().as_ref().and_then(|held| held.bounding().clone());
    let asked = asked_filter(context, input.found.seccomp_profile.as_deref());
    let filter = seccomp::seccomp(&asked, input.node.seccomp, &held.unwrap_or_default())?;
    let mut oci = document::linux();
    oci.set_seccomp(filter);
    if !context.privileged {
        oci.set_masked_paths(Some(context.masked_paths.clone()));
        oci.set_readonly_paths(Some(context.readonly_paths.clone()));
    }
    Ok(oci)
}

/// Sets the namespaces, and says what they mean for the mounts.
fn namespaces(
    input: &ContainerInput<'_>,
    context: &LinuxContainerSecurityContext,
    oci: &mut Linux,
) -> Result<mounts::Access, SpecError> {
    let of_pod = input.pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let of_pod: NamespaceOption =
        of_pod.and_then(|context| context.namespace_options.clone()).unwrap_or_default();
    let own = context.namespace_options.clone().unwrap_or_default();
    // A guest has version 2 in any case.
    let version_1 = input.handler.runtime == Runtime::Runc && !input.node.cgroup_namespaces;
    let wish = namespaces::Wish {
        options: &own,
        pod: &of_pod,
        pod_pid: input.pod_pid,
        target_pid: input.target_pid,
        all_cgroups: context.privileged || version_1,
    };
    let (list, users) = namespaces::of_container(&wish, input.handler)?;
    let foreign_network = namespaces::is_node("network", of_pod.network)? && users.is_some();
    if let Some((uids, gids)) = users {
        oci.set_uid_mappings(Some(uids)).set_gid_mappings(Some(gids));
    }
    oci.set_namespaces(Some(list));
    Ok(mounts::Access {
        privileged: context.privileged,
        read_only_root: context.readonly_rootfs,
        foreign_network,
        node_ipc: namespaces::is_node("ipc", own.ipc)?,
    })
}

/// Sets the cgroup, the limits and the devices.
fn limits(
    input: &ContainerInput<'_>,
    linux: &LinuxContainerConfig,
    oci: &mut Linux,
    notes: &mut Vec<String>,
) -> Result<(), SpecError> {
    let parent = input.pod.linux.as_ref().map_or("", |linux| &linux.cgroup_parent);
    let path = cgroup::path(parent, input.container_id, input.node.cgroup_driver)?;
    let privileged = linux.security_context.as_ref().is_some_and(|context| context.privileged);
    let devices = devices::devices(input, privileged)?;
    let mut limits = LinuxResources::default();
    limits.set_devices(Some(devices.rules));
    if let Some(asked) = &linux.resources {
        notes.extend(resources::apply(&mut limits, asked, input.node)?);
    }
    oci.set_cgroups_path(Some(path)).set_resources(Some(limits));
    oci.set_devices(Some(devices.nodes).filter(|devices| !devices.is_empty()));
    Ok(())
}

/// A line for labels, which a node without SELinux has no use for.
fn selinux(asked: Option<&SeLinuxOption>) -> Option<String> {
    let asked = asked.filter(|asked| **asked != SeLinuxOption::default())?;
    let SeLinuxOption { user, role, r#type, level } = asked;
    let label = error::shown(&format!("{user}:{role}:{}:{level}", r#type));
    Some(format!("SELinux label \"{label}\" is not applied: the node is taken for one without"))
}

#[cfg(test)]
mod tests;
