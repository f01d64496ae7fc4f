//! A directory of its own for each test: plugins, their configuration, and what they were called
//! with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use cni::{Attachment, Capabilities, Conf, NodeNetwork, Plugins, Pod};
use serde_json::Value;

/// How long a plugin may take that is not meant to be killed.
pub(crate) const PATIENT: Duration = Duration::from_secs(120);

/// An answer to ADD with an address of the pod.
pub(crate) const RESULT: &str = r#"{"cniVersion": "1.0.0",
    "interfaces": [{"name": "eth0", "sandbox": "/run/netns/a"}],
    "ips": [{"address": "10.0.0.2/24", "interface": 0}]}"#;

pub(crate) struct Ground(tempfile::TempDir);

impl Ground {
    pub(crate) fn new() -> Self {
        let ground = Self(tempfile::tempdir().unwrap());
        for name in ["bin", "net.d", "calls"] {
            fs::create_dir(ground.path(name)).unwrap();
        }
        ground
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Installs a plugin that notes each call and what it is told, and then does `script`.
    pub(crate) fn plugin(&self, name: &str, script: &str) {
        let calls = self.path("calls");
        let notes = format!(
            "#!/bin/sh\ncalls={}\ncall={name}-$CNI_COMMAND\necho $call >>$calls/all\n\
             env | grep ^CNI_ | sort >$calls/$call.env\ncat >$calls/$call.in\n{script}\n",
            calls.display()
        );
        self.program(name, &notes);
    }

    /// Installs a plugin that is this script and nothing else.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A plugin that answers ADD and succeeds with all.
    pub(crate) fn good_plugin(&self, name: &str) {
        self.plugin(name, &format!("[ $CNI_COMMAND != ADD ] || cat <<'END'\n{RESULT}\nEND"));
    }

    /// Writes a file of the configuration.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path("net.d").join(name), text).unwrap();
    }

    /// The network that a list of this version is, with these plugins.
    pub(crate) fn conf(&self, version: &str, plugins: &[&str]) -> Conf {
        let plugins: Vec<_> =
            plugins.iter().map(|name| format!(r#"{{"type": "{name}"}}"#)).collect();
        let plugins = plugins.join(",");
        self.conf_of(&format!(r#""cniVersion": "{version}", "plugins": [{plugins}]"#))
    }

    /// The network that a list with these fields is.
    pub(crate) fn conf_of(&self, fields: &str) -> Conf {
        self.write("10-net.conflist", &format!(r#"{{"name": "net", {fields}}}"#));
        self.network().conf().unwrap().as_ref().clone()
    }

    pub(crate) fn network(&self) -> NodeNetwork {
        NodeNetwork::open(self.path("net.d"), self.plugins())
    }

    pub(crate) fn plugins(&self) -> Plugins {
        self.plugins_within(PATIENT)
    }

    pub(crate) fn plugins_within(&self, limit: Duration) -> Plugins {
        Plugins::new(vec![self.path("elsewhere"), self.path("bin")], limit)
    }

    pub(crate) fn pod(&self) -> Pod {
        Pod {
            id: "0123".to_owned(),
            netns: self.path("netns"),
            interface: "eth0".to_owned(),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            uid: "77".to_owned(),
            capabilities: Capabilities::default(),
        }
    }

    pub(crate) fn attachment(&self, conf: &Conf) -> Attachment {
        Attachment::new(conf, &self.pod()).unwrap()
    }

    /// All calls so far, as `PLUGIN-COMMAND`.
    pub(crate) fn calls(&self) -> Vec<String> {
        let all = fs::read_to_string(self.path("calls/all")).unwrap_or_default();
        all.lines().map(str::to_owned).collect()
    }

    /// The variables `CNI_*` of the last call, sorted.
    pub(crate) fn environment(&self, call: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls").join(format!("{call}.env"))).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// What the plugin read at the last call.
    pub(crate) fn input(&self, call: &str) -> Value {
        let text = fs::read(self.path("calls").join(format!("{call}.in"))).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}
