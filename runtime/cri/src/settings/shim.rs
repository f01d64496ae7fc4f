//! Handlers that the operator adds: other shims of containerd's protocol, as runc's.

use std::collections::BTreeMap;

use glob::Pattern;
use serde::{Deserialize, Serialize};

/// Shims by the names of their handlers.
pub type Shims = BTreeMap<String, ShimSettings>;

/// The shim of a handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShimSettings {
    /// The shim: a type as `io.containerd.runc.v2`, or the whole path of its binary.
    pub runtime_type: String,
    /// What the shim is told, in containerd's words.
    #[serde(default)]
    pub options: ShimOptions,
    /// Keys of a pod's annotations that its containers' configurations have, too; `*` is anything
    /// but a slash.
    #[serde(default)]
    pub pod_annotations: Vec<String>,
    /// The same of a container's annotations.
    #[serde(default)]
    pub container_annotations: Vec<String>,
}

/// What a shim is told. The first ten are runc's, the last two those of all others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
pub struct ShimOptions {
    /// The binary of the runtime; none: `runc` in `PATH`.
    pub binary_name: Option<String>,
    /// Whether systemd makes its cgroups; none: as the node's are made.
    pub systemd_cgroup: Option<bool>,
    /// Whether the root is changed without pivot_root(2).
    pub no_pivot_root: Option<bool>,
    /// Whether containers get no keyring of their own.
    pub no_new_keyring: Option<bool>,
    /// The cgroup of shims.
    pub shim_cgroup: Option<String>,
    /// Who owns the pipes of outputs.
    pub io_uid: Option<u32>,
    /// The group that owns them.
    pub io_gid: Option<u32>,
    /// Directory of the runtime's state.
    pub root: Option<String>,
    /// Directory of CRIU's images.
    pub criu_image_path: Option<String>,
    /// Directory of CRIU's work.
    pub criu_work_path: Option<String>,
    /// The type of the configuration.
    pub type_url: Option<String>,
    /// Its file.
    pub config_path: Option<String>,
}

/// The key that is wrong, and why (pure).
///
/// # Errors
/// A name that is ours, a pattern that is none, or pods that go to a handler that is none.
pub(super) fn check(handlers: &Shims, host_pods: &str) -> Result<(), (String, String)> {
    for (name, handler) in handlers {
        let key = format!("handlers.{name}");
        if name.is_empty() || name == super::OWN {
            return Err((key, "this name is our own handler's".to_owned()));
        }
        let patterns = handler.pod_annotations.iter().chain(&handler.container_annotations);
        for pattern in patterns {
            if let Err(error) = Pattern::new(pattern) {
                return Err((key, format!("pattern {pattern:?}: {error}")));
            }
        }
    }
    if host_pods.is_empty() || handlers.contains_key(host_pods) {
        return Ok(());
    }
    let known: Vec<_> = handlers.keys().map(|name| format!("{name:?}")).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(("host_pods".to_owned(), format!("no handler {host_pods:?} on the node; there is {known}")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Settings;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("/x.toml")).map_err(|error| error.to_string())
    }

    const RUNC: &str = "[handlers.runc]\nruntime_type = \"io.containerd.runc.v2\"\n";

    #[test]
    fn handler_has_containerds_words() {
        let text = format!(
            "host_pods = \"runc\"\n{RUNC}options = {{ SystemdCgroup = true, BinaryName = \"crun\" }}\n"
        );
        let settings = parse(&text).unwrap();
        let handler = &settings.handlers["runc"];
        assert_eq!(handler.options.systemd_cgroup, Some(true));
        assert_eq!(handler.options.binary_name.as_deref(), Some("crun"));
        assert_eq!(settings.host_pods, "runc");
        let again = toml::to_string(&settings).unwrap();
        assert_eq!(parse(&again).unwrap(), settings, "what `--check` prints can be read");
    }

    #[test]
    fn wrong_handler_is_told_with_its_key() {
        for (text, part) in [
            (
                "[handlers.cuddy]\nruntime_type = \"x.y.v2\"\n".to_owned(),
                "handlers.cuddy: this name",
            ),
            ("host_pods = \"runc\"\n".to_owned(), "host_pods: no handler \"runc\""),
            (format!("host_pods = \"kata\"\n{RUNC}"), "there is \"runc\""),
            (format!("{RUNC}options = {{ SystemdCgroups = true }}\n"), "`SystemdCgroup`"),
            (format!("{RUNC}pod_annotations = [\"a***\"]\n"), "pattern \"a***\""),
            ("[handlers.x]\n".to_owned(), "runtime_type"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
