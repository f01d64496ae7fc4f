//! What the operator decides: `/etc/cuddy/cuddyd.toml`. Every key has a default, and one that does
//! not exist is told with the nearest that does.

mod shim;

use std::path::{Path, PathBuf};

use bridge::Wanted;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// The name of our own handler.
pub(crate) const OWN: &str = "cuddy";

/// Where the file is, unless the command line says otherwise.
pub const FILE: &str = "/etc/cuddy/cuddyd.toml";

/// Who manages the cgroups of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// systemd where it runs, else nobody.
    #[default]
    Auto,
    /// systemd.
    Systemd,
    /// Nobody.
    Cgroupfs,
}

pub use shim::{ShimOptions, ShimSettings, Shims};
/// Which pods go on the node's own bridge while CNI has no configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bridge {
    /// All but a kubelet's, whose network may come later.
    #[default]
    Auto,
    /// All.
    Always,
    /// None.
    Never,
}

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Directory for what a restart of the node forgets.
    pub state: PathBuf,
    /// Directory for images and for what containers write.
    pub root: PathBuf,
    /// The socket that is served.
    pub socket: PathBuf,
    /// Group that may use the socket beside root. Who is in it is root on the node.
    pub group: String,
    /// Directory of CNI's configuration.
    pub cni_conf_dir: PathBuf,
    /// Directories of CNI's plugins, the first one first.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// Which pods go on the node's own bridge while CNI has no configuration.
    pub bridge: Bridge,
    /// The bridge's name.
    pub bridge_name: String,
    /// The pods' /16 on the bridge; none: one that no route leads into.
    pub bridge_ipv4: Option<Ipv4Net>,
    /// The pods' /64 on the bridge, of fd00::/8; none: one at random.
    pub bridge_ipv6: Option<Ipv6Net>,
    /// Directories of the registries' `hosts.toml` with colons between them, as containerd's
    /// `config_path`.
    pub registry_config: String,
    /// Bytes that a container may write to its own root file system, unless its limits say less.
    pub container_disk: u64,
    /// Who manages the cgroups.
    pub cgroup_driver: Driver,
    /// The handler of pods that name none, and need the node's namespaces or its devices; empty:
    /// such pods are refused.
    pub host_pods: String,
    /// Handlers beside our own, by their names.
    pub handlers: Shims,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            state: "/run/cuddy/cri".into(),
            root: "/var/lib/cuddy".into(),
            socket: "/run/cuddy/cri.sock".into(),
            group: "cuddy".into(),
            cni_conf_dir: cni::DEFAULT_DIRECTORY.into(),
            cni_bin_dirs: vec![cni::DEFAULT_PATH.into(), "/usr/lib/cni".into()],
            bridge: Bridge::default(),
            bridge_name: "cuddy0".into(),
            bridge_ipv4: None,
            bridge_ipv6: None,
            registry_config: "/etc/cuddy/certs.d".into(),
            container_disk: 16 << 30,
            cgroup_driver: Driver::default(),
            host_pods: String::new(),
            handlers: Shims::new(),
        }
    }
}

/// Why the settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("reading {path}: {source}")]
    Unread {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its text makes no sense.
    #[error("{path}:{line}: {text}")]
    Text {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// Why.
        text: String,
    },
    /// A key is none.
    #[error("{path}:{line}: there is no setting {key:?}: did you mean {nearest:?}?")]
    Key {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// The key.
        key: String,
        /// The key that looks most like it.
        nearest: &'static str,
    },
    /// A value can't be.
    #[error("{path}:{line}: {key}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// The key.
        key: String,
        /// Why.
        problem: String,
    },
}

impl Settings {
    /// Reads the file; its absence means the defaults.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SettingsError::Unread { path: path.into(), source }),
        }
    }

    /// Reads its text (pure).
    ///
    /// # Errors
    /// [`SettingsError::Text`], [`SettingsError::Key`], [`SettingsError::Value`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let settings: Self =
            toml::from_str(text).map_err(|error| unreadable(text, path, &error))?;
        let wrong = |key: &str, problem: &str| SettingsError::Value {
            path: path.into(),
            line: line_of(text, key),
            key: key.to_owned(),
            problem: problem.to_owned(),
        };
        for (key, value) in [
            ("state", &settings.state),
            ("root", &settings.root),
            ("socket", &settings.socket),
            ("cni_conf_dir", &settings.cni_conf_dir),
        ] {
            if !value.is_absolute() {
                return Err(wrong(key, "not a whole path"));
            }
        }
        if !is_interface(&settings.bridge_name) {
            return Err(wrong("bridge_name", "no name of an interface"));
        }
        if settings.bridge_ipv4.is_some_and(|net| net.prefix_len() != 16) {
            return Err(wrong("bridge_ipv4", "not a /16"));
        }
        let local = |net: Ipv6Net| net.prefix_len() == 64 && net.addr().is_unique_local();
        if settings.bridge_ipv6.is_some_and(|net| !local(net)) {
            return Err(wrong("bridge_ipv6", "not a /64 of fd00::/8"));
        }
        if settings.container_disk < 1 << 20 {
            return Err(wrong("container_disk", "less than a MiB"));
        }
        shim::check(&settings.handlers, &settings.host_pods)
            .map_err(|(key, problem)| wrong(&key, &problem))?;
        Ok(settings)
    }

    /// The subnets of the node's own bridge.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted { v4: self.bridge_ipv4, v6: self.bridge_ipv6 }
    }
}

/// All keys.
const KEYS: [&str; 15] = [
    "state",
    "root",
    "socket",
    "group",
    "cni_conf_dir",
    "cni_bin_dirs",
    "bridge",
    "bridge_name",
    "bridge_ipv4",
    "bridge_ipv6",
    "registry_config",
    "container_disk",
    "cgroup_driver",
    "host_pods",
    "handlers",
];

/// Where and why a text makes no sense, and which key may be meant.
fn unreadable(text: &str, path: &Path, error: &toml::de::Error) -> SettingsError {
    let span = error.span().unwrap_or_default();
    let line = 1 + text.get(..span.start).unwrap_or_default().matches('\n').count();
    let (path, problem) = (path.into(), error.message().replace('\n', " "));
    let key = text.get(span).unwrap_or_default().trim_matches(['"', '\'']);
    // What is unknown within a handler has its own list of keys, which the text has.
    if !problem.starts_with("unknown field") || !problem.contains(&format!("`{}`", KEYS[0])) {
        return SettingsError::Text { path, line, text: problem };
    }
    let likeness = |known: &&&str| strsim::jaro_winkler(known, key);
    let best = KEYS.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    SettingsError::Key {
        path,
        line,
        key: key.to_owned(),
        nearest: best.copied().unwrap_or(KEYS[0]),
    }
}

/// The line that a key's value is set in.
fn line_of(text: &str, key: &str) -> usize {
    let sets = |line: &str| line.split('=').next().is_some_and(|word| word.trim() == key);
    1 + text.lines().position(sets).unwrap_or_default()
}

/// As `dev_valid_name` of the kernel, and nothing that a pod's cable may be called.
fn is_interface(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=15).contains(&name.len())
        && name.bytes().all(is_letter)
        && !matches!(name, "." | "..")
        && !name.starts_with("cuddyv")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("/x.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn empty_file_means_the_defaults() {
        assert_eq!(parse("").unwrap(), Settings::default());
    }

    #[test]
    fn wrong_key_is_told_with_its_line_and_the_nearest_that_there_is() {
        for (text, expected) in [
            (
                "group = \"a\"\nsockett = \"/x\"\n",
                "/x.toml:2: there is no setting \"sockett\": did you mean \"socket\"?",
            ),
            (
                "\"cni_confdir\" = 1\n",
                "/x.toml:1: there is no setting \"cni_confdir\": did you mean \"cni_conf_dir\"?",
            ),
            (
                "\n\ncgroup-driver = \"auto\"\n",
                "/x.toml:3: there is no setting \"cgroup-driver\": did you mean \"cgroup_driver\"?",
            ),
            ("# a\nsocket = \"cri.sock\"\n", "/x.toml:2: socket: not a whole path"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
        let error = parse("\ncontainer_disk = \"x\"\n").unwrap_err();
        assert!(error.starts_with("/x.toml:2: invalid type"), "{error}");
        assert!(parse("a = [\n").unwrap_err().starts_with("/x.toml:"));
    }

    #[test]
    fn keys_are_all_that_there_are() {
        let error = toml::from_str::<Settings>("x = 1\n").unwrap_err();
        let known = error.message().split('`').skip(3).step_by(2).collect::<Vec<_>>();
        assert_eq!(known, KEYS);
    }

    #[test]
    fn subnets_that_the_bridge_can_not_have_are_refused() {
        for (text, problem) in [
            ("bridge_ipv4 = \"10.1.0.0/24\"\n", "bridge_ipv4: not a /16"),
            ("bridge_ipv6 = \"2001:db8::/64\"\n", "bridge_ipv6: not a /64 of fd00::/8"),
            ("bridge_name = \"a/b\"\n", "bridge_name: no name"),
            ("bridge = \"off\"\n", "`never`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        let settings = parse("bridge = \"always\"\nbridge_ipv4 = \"172.20.0.0/16\"\n").unwrap();
        assert_eq!(settings.bridge, Bridge::Always);
        assert_eq!(settings.wanted().v4.unwrap().to_string(), "172.20.0.0/16");
        // As `cuddyd --check` shows it.
        let shown = toml::to_string(&settings).unwrap();
        assert_eq!(Settings::parse(&shown, Path::new("/x.toml")).unwrap(), settings);
    }
}
