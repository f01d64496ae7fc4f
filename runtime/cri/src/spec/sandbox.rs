//! The configuration of a sandbox container: a process that holds the pod's namespaces and does
//! nothing. Only the runc handler has one.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxCpu, LinuxResources, Root, Spec};
use protocol::cri::{LinuxPodSandboxConfig, NamespaceOption};

use super::devices::Devices;
use super::input::{Runtime, SandboxInput};
use super::mounts::{self, Access};
use super::{ContainerSpec, ROOT, SpecError, annotations, capabilities, cgroup, document, process};
use super::{namespaces, refusal, seccomp, user};

/// What the process is worth to the kernel's OOM killer: it ends after all others.
const OOM_SCORE_ADJ: i32 = -998;

/// Its share of the CPU, the least that there is.
const CPU_SHARES: u64 = 2;

/// Kernel parameters by which containers may use low ports and ICMP sockets without privilege, as
/// containerd sets them.
const UNPRIVILEGED: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// Makes the configuration of a pod's sandbox container.
///
/// # Errors
/// [`SpecError`] says what of the request can't be carried out.
pub fn sandbox(input: &SandboxInput<'_>) -> Result<ContainerSpec, SpecError> {
    let SandboxInput { pod, handler, .. } = *input;
    if let Some(reason) = refusal(handler.runtime, pod, None) {
        return Err(SpecError::Refused(reason));
    }
    let linux = pod.linux.clone().unwrap_or_default();
    let context = linux.security_context.clone().unwrap_or_default();
    let options = context.namespace_options.clone().unwrap_or_default();
    let (list, users) = namespaces::of_sandbox(&options, input.network, input.users, handler)?;
    let node_network = namespaces::is_node("network", options.network)?;
    let access = Access {
        foreign_network: node_network && users.is_some(),
        node_ipc: namespaces::is_node("ipc", options.ipc)?,
        ..Access::default()
    };
    let held = capabilities::defaults();
    let asked = seccomp::Request {
        profile: context.seccomp.as_ref(),
        #[allow(deprecated, reason = "kubelets before 1.30 say it there")]
        text: &context.seccomp_profile_path,
        privileged: context.privileged,
        content: input.seccomp_profile,
    };
    let bounding = held.bounding().clone().unwrap_or_default();
    let filter = seccomp::seccomp(&asked, input.node.seccomp, &bounding)?;
    let mut process = pause(input)?;
    process.set_capabilities(Some(held));

    let mut oci = document::linux();
    let path = cgroup::path(&linux.cgroup_parent, input.pod_id, input.node.cgroup_driver)?;
    oci.set_namespaces(Some(list)).set_cgroups_path(Some(path)).set_seccomp(filter);
    oci.set_sysctl(Some(sysctls(&linux, &options)).filter(|list| !list.is_empty()));
    oci.set_resources(Some(limits()));
    if let Some((uids, gids)) = users {
        oci.set_uid_mappings(Some(uids)).set_gid_mappings(Some(gids));
    }
    let mut root = Root::default();
    root.set_path(PathBuf::from(ROOT)).set_readonly(Some(true));
    let mut spec: Spec = document::spec(process, root, oci);
    spec.set_mounts(Some(mounts::of_sandbox(input.paths, access)));
    spec.set_hostname(Some(pod.hostname.clone()).filter(|name| !name.is_empty() && !node_network));
    let all = annotations::of_sandbox(pod, input.pod_id, input.image_name, handler);
    spec.set_annotations(Some(all));
    let notes = super::selinux(context.selinux_options.as_ref()).into_iter().collect();
    Ok(ContainerSpec { spec, notes })
}

/// The process: the image's.
fn pause(input: &SandboxInput<'_>) -> Result<oci_spec::runtime::Process, SpecError> {
    let image = input.image.config().clone().unwrap_or_default();
    let context = input.pod.linux.as_ref().and_then(|linux| linux.security_context.clone());
    let context = context.unwrap_or_default();
    let text = user::user_text("", context.run_as_user.as_ref(), context.run_as_group.as_ref())?;
    let of_image = image.user().as_deref().unwrap_or_default();
    let text = text.as_deref().unwrap_or(of_image);
    // The policy is about containers: this process has the groups that it is given.
    let request = user::read(text, false, &context.supplemental_groups)?;
    let (user, _) = user::user(&request, Runtime::Runc, input.accounts)?;
    let hostname = super::hostname(input.pod, input.node);
    let env = process::env(hostname, false, process::list(image.env()), &[])?;
    let args = process::args(&protocol::cri::ContainerConfig::default(), &image)?;
    let mut process = document::process(args, env, process::directory("", &image)?);
    process.set_user(user).set_oom_score_adj(Some(OOM_SCORE_ADJ));
    Ok(process)
}

fn limits() -> LinuxResources {
    let (mut resources, mut cpu) = (LinuxResources::default(), LinuxCpu::default());
    cpu.set_shares(Some(CPU_SHARES));
    resources.set_cpu(Some(cpu)).set_devices(Some(Devices::none().rules));
    resources
}

/// The pod's kernel parameters. What was asked for wins.
fn sysctls(
    linux: &LinuxPodSandboxConfig,
    options: &NamespaceOption,
) -> std::collections::HashMap<String, String> {
    let mut all = linux.sysctls.clone();
    let own_network = options.network != i32::from(protocol::cri::NamespaceMode::Node);
    // The range of groups has to be one of the user namespace that owns the network.
    let count = match (own_network, &options.userns_options) {
        (false, _) => 0,
        (true, Some(users)) if !users.uids.is_empty() => 1,
        (true, _) => 2,
    };
    for (key, value) in UNPRIVILEGED.iter().take(count) {
        all.entry((*key).to_owned()).or_insert_with(|| (*value).to_owned());
    }
    all
}

#[cfg(test)]
mod tests;
