//! The operator's settings, in two steps: [`RawConfig`] as read from the file, [`Config`]
//! checked and complete. Nothing else checks a setting again.

use std::path::{Path, PathBuf};

use api::Error;
use api::error::chain;
use serde::Deserialize;
use vmm_api::config::MAX_EXTRA_CMDLINE;

/// Where settings are read from unless the environment names another file.
pub const DEFAULT_PATH: &str = "/etc/cuddy/config.toml";

/// Environment variable that names another configuration file, for tests.
pub const PATH_VARIABLE: &str = "CUDDY_CONFIG";

/// All keys of the configuration file.
pub const KEYS: [&str; 11] = [
    "kernel",
    "rootfs",
    "vmm",
    "default_vcpus",
    "default_memory_mib",
    "memory_overhead_mib",
    "boot_timeout_seconds",
    "guest_timeout_seconds",
    "extra_cmdline",
    "templates",
    "debug",
];

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file exists but could not be read.
    #[error("reading configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or a value of the wrong type.
    #[error("configuration {path}: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words in one line.
        reason: String,
    },
    /// A key that means nothing.
    #[error("configuration {path}: unknown key {key:?}, did you mean {nearest:?}?")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key as written.
        key: String,
        /// The known key that looks most like it.
        nearest: &'static str,
    },
    /// A value out of its range.
    #[error("configuration {path}: {key}: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Whose value.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The running binary's place can't be told, so neither can that of kernel and root image.
    #[error("finding the installed prefix")]
    Prefix(#[source] std::io::Error),
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Unavailable(chain(&error))
    }
}

/// Who shares the template of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Templates {
    /// All pods of the node.
    #[default]
    Node,
    /// The pods of one namespace.
    Namespace,
    /// Nobody: each machine boots for itself.
    None,
}

/// Settings as read; absent keys take their defaults in [`Config`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Path of the guest kernel.
    pub kernel: Option<PathBuf>,
    /// Path of the guest's root image.
    pub rootfs: Option<PathBuf>,
    /// Path of the VMM binary.
    pub vmm: Option<PathBuf>,
    /// vCPUs of a machine whose pod states no limit.
    pub default_vcpus: Option<u32>,
    /// Memory in MiB of a machine whose pod states no limit.
    pub default_memory_mib: Option<u64>,
    /// Memory in MiB that a machine gets on top of its pod's limit.
    pub memory_overhead_mib: Option<u64>,
    /// Seconds that a guest may take until its agent serves.
    pub boot_timeout_seconds: Option<u64>,
    /// Seconds that a running guest's agent may be silent before its machine is ended.
    pub guest_timeout_seconds: Option<u64>,
    /// Words added to the guest kernel's command line.
    pub extra_cmdline: Option<String>,
    /// Who shares templates.
    pub templates: Option<Templates>,
    /// Whether to show the guest's early boot.
    pub debug: Option<bool>,
}

/// Settings, complete and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Path of the guest kernel.
    pub kernel: PathBuf,
    /// Path of the guest's root image.
    pub rootfs: PathBuf,
    /// Path of the VMM binary.
    pub vmm: PathBuf,
    /// vCPUs of a machine whose pod states no limit, 1 to 32.
    pub default_vcpus: u32,
    /// Memory in MiB of a machine whose pod states no limit, 64 to 262144.
    pub default_memory_mib: u64,
    /// Memory in MiB on top of a pod's limit, at most 65536.
    pub memory_overhead_mib: u64,
    /// Time that a guest may take until its agent serves, 1 s to 1 h.
    pub boot_timeout: std::time::Duration,
    /// Time that a running guest's agent may take to answer, 1 s to 1 h. Its machine is ended
    /// then, and found out about two seconds later at most.
    pub guest_timeout: std::time::Duration,
    /// Words added to the guest kernel's command line.
    pub extra_cmdline: String,
    /// Who shares templates.
    pub templates: Templates,
    /// Whether to show the guest's early boot.
    pub debug: bool,
}

impl Config {
    /// Reads the file that the environment names, or `/etc/cuddy/config.toml`, which may be
    /// absent. Paths default to the prefix that the running binary is installed under.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and what is wrong with it.
    pub fn load() -> Result<Self, ConfigError> {
        let named = std::env::var_os(PATH_VARIABLE).map(PathBuf::from);
        let path = named.clone().unwrap_or_else(|| DEFAULT_PATH.into());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
                String::new()
            }
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        let binary = std::env::current_exe().map_err(ConfigError::Prefix)?;
        let prefix = binary.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        Self::new(RawConfig::parse(&text, &path)?, prefix, &path)
    }

    /// Completes and checks settings read from `path`, for a product installed under `prefix`.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a value out of its range.
    pub fn new(raw: RawConfig, prefix: &Path, path: &Path) -> Result<Self, ConfigError> {
        let value = |key, reason: &str| ConfigError::Value {
            path: path.to_owned(),
            key,
            reason: reason.to_owned(),
        };
        let config = Self {
            kernel: raw.kernel.unwrap_or_else(|| prefix.join("share/cuddy/vmlinux")),
            rootfs: raw.rootfs.unwrap_or_else(|| prefix.join("share/cuddy/rootfs.erofs")),
            vmm: raw.vmm.unwrap_or_else(|| prefix.join("bin/cuddy-vmm")),
            default_vcpus: raw.default_vcpus.unwrap_or(1),
            default_memory_mib: raw.default_memory_mib.unwrap_or(512),
            memory_overhead_mib: raw.memory_overhead_mib.unwrap_or(128),
            boot_timeout: std::time::Duration::from_secs(raw.boot_timeout_seconds.unwrap_or(60)),
            guest_timeout: std::time::Duration::from_secs(raw.guest_timeout_seconds.unwrap_or(6)),
            extra_cmdline: raw.extra_cmdline.unwrap_or_default(),
            templates: raw.templates.unwrap_or_default(),
            debug: raw.debug.unwrap_or(false),
        };
        if !(1..=32).contains(&config.default_vcpus) {
            return Err(value("default_vcpus", "must be 1 to 32"));
        }
        if !(64..=262_144).contains(&config.default_memory_mib) {
            return Err(value("default_memory_mib", "must be 64 to 262144"));
        }
        if config.memory_overhead_mib > 65_536 {
            return Err(value("memory_overhead_mib", "must be at most 65536"));
        }
        if !(1..=3600).contains(&config.boot_timeout.as_secs()) {
            return Err(value("boot_timeout_seconds", "must be 1 to 3600"));
        }
        if !(1..=3600).contains(&config.guest_timeout.as_secs()) {
            return Err(value("guest_timeout_seconds", "must be 1 to 3600"));
        }
        if config.extra_cmdline.len() > MAX_EXTRA_CMDLINE
            || !config.extra_cmdline.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        {
            return Err(value("extra_cmdline", "must be at most 1024 printable ASCII characters"));
        }
        for (key, file) in
            [("kernel", &config.kernel), ("rootfs", &config.rootfs), ("vmm", &config.vmm)]
        {
            if !file.is_absolute() {
                return Err(value(key, "must be an absolute path"));
            }
        }
        Ok(config)
    }
}

impl RawConfig {
    /// Parses the text of the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKey`] with the nearest known key, or [`ConfigError::Syntax`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            reason: error.to_string().trim().replace('\n', " "),
        };
        let table: toml::Table = text.parse().map_err(syntax)?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                key: key.clone(),
                nearest: nearest(key),
            });
        }
        table.try_into().map_err(syntax)
    }
}

/// The known key that takes the fewest edits to reach, adjusted for common prefixes.
fn nearest(key: &str) -> &'static str {
    let likeness = |known: &&str| strsim::jaro_winkler(known, key);
    let best = KEYS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.copied().unwrap_or(KEYS[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let path = Path::new("/etc/cuddy/config.toml");
        Config::new(RawConfig::parse(text, path)?, Path::new("/opt/cuddy"), path)
    }

    #[test]
    fn empty_file_means_the_installed_prefix() {
        let config = parse("").unwrap();
        assert_eq!(config.kernel, Path::new("/opt/cuddy/share/cuddy/vmlinux"));
        assert_eq!(config.rootfs, Path::new("/opt/cuddy/share/cuddy/rootfs.erofs"));
        assert_eq!(config.vmm, Path::new("/opt/cuddy/bin/cuddy-vmm"));
        assert_eq!(config.default_vcpus, 1);
    }

    #[test]
    fn unknown_key_is_named_with_the_nearest_known_one() {
        for (key, nearest) in [
            ("kernal", "kernel"),
            ("default_memory_mb", "default_memory_mib"),
            ("default_cpus", "default_vcpus"),
            ("extra_cmd_line", "extra_cmdline"),
        ] {
            let text = parse(&format!("{key} = 1")).unwrap_err().to_string();
            assert!(text.contains(&format!("{key:?}")), "{text}");
            assert!(text.contains(&format!("did you mean {nearest:?}")), "{text}");
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (text, key) in [
            ("default_vcpus = 0", "default_vcpus"),
            ("default_vcpus = 33", "default_vcpus"),
            ("default_memory_mib = 63", "default_memory_mib"),
            ("memory_overhead_mib = 65537", "memory_overhead_mib"),
            ("boot_timeout_seconds = 0", "boot_timeout_seconds"),
            ("kernel = 'vmlinux'", "kernel"),
            ("extra_cmdline = \"a\\nb\"", "extra_cmdline"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn wrong_type_and_broken_syntax_name_the_file() {
        for text in ["default_vcpus = \"two\"", "= 3", "debug = 1", "templates = \"pod\""] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("/etc/cuddy/config.toml"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn every_key_of_the_table_is_a_field() {
        let text = "kernel='/k'\nrootfs='/r'\nvmm='/v'\ndefault_vcpus=2\n\
            default_memory_mib=256\nmemory_overhead_mib=1\nboot_timeout_seconds=5\nguest_timeout_seconds=9\n\
            extra_cmdline='quiet'\ntemplates='namespace'\ndebug=true";
        assert_eq!(text.lines().count(), KEYS.len());
        let config = parse(text).unwrap();
        assert_eq!((config.templates, config.debug), (Templates::Namespace, true));
    }

    #[test]
    fn every_key_is_documented_with_its_default() {
        let manual = include_str!("../../../docs/configuration.md");
        let config = parse("").unwrap();
        for (key, default) in [
            ("default_vcpus", config.default_vcpus.to_string()),
            ("default_memory_mib", config.default_memory_mib.to_string()),
            ("memory_overhead_mib", config.memory_overhead_mib.to_string()),
            ("boot_timeout_seconds", config.boot_timeout.as_secs().to_string()),
            ("guest_timeout_seconds", config.guest_timeout.as_secs().to_string()),
            ("templates", "`node`".to_owned()),
            ("debug", config.debug.to_string()),
        ] {
            let line = format!("| `{key}` | {default} |");
            assert!(manual.contains(&line), "docs/configuration.md lacks: {line}");
        }
        for key in KEYS {
            assert!(manual.contains(&format!("| `{key}` | ")), "{key} is not documented");
        }
    }
}
