//! Empty parts of a configuration. Those of the crate `oci-spec` are examples, with a shell and
//! with rights of their own.

use oci_spec::runtime::{Linux, Process, Root, Spec, VERSION};

/// A process without any right.
pub(super) fn process(args: Vec<String>, env: Vec<String>, directory: String) -> Process {
    let mut process = Process::default();
    process.set_args(Some(args)).set_env(Some(env)).set_cwd(directory.into());
    process.set_capabilities(None).set_rlimits(None).set_apparmor_profile(None);
    process.set_selinux_label(None).set_no_new_privileges(Some(false));
    process
}

/// Nothing of Linux.
pub(super) fn linux() -> Linux {
    let mut linux = Linux::default();
    linux.set_resources(None).set_namespaces(None);
    linux.set_masked_paths(None).set_readonly_paths(None);
    linux
}

/// A configuration of these parts.
pub(super) fn spec(process: Process, root: Root, linux: Linux) -> Spec {
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned()).set_process(Some(process)).set_root(Some(root));
    spec.set_linux(Some(linux)).set_mounts(None).set_hostname(None).set_domainname(None);
    spec.set_hooks(None).set_annotations(None);
    spec
}
