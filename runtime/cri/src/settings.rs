//! What the operator decides: `/etc/cuddy/cuddyd.toml`. Every key has a default, and one that does
//! not exist is told with the nearest that does.

mod shim;

use std::path::{Path, PathBuf};

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
    #[error("{path}: {text}")]
    Text {
        /// The file.
        path: PathBuf,
        /// Why, with the line.
        text: String,
    },
    /// A value can't be.
    #[error("{path}: {key}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
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
    /// [`SettingsError::Text`], [`SettingsError::Value`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text).map_err(|error| {
            let text = error.to_string().trim_end().to_owned();
            SettingsError::Text { path: path.into(), text }
        })?;
        let wrong = |key: &str, problem: &str| SettingsError::Value {
            path: path.into(),
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
        if settings.container_disk < 1 << 20 {
            return Err(wrong("container_disk", "less than a MiB"));
        }
        shim::check(&settings.handlers, &settings.host_pods)
            .map_err(|(key, problem)| wrong(&key, &problem))?;
        Ok(settings)
    }
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
    fn wrong_key_is_told_with_those_that_there_are() {
        let error = parse("sockett = \"/x\"\n").unwrap_err();
        assert!(error.contains("sockett") && error.contains("`socket`"), "{error}");
        let error = parse("socket = \"cri.sock\"\n").unwrap_err();
        assert!(error.contains("socket: not a whole path"), "{error}");
    }
}
