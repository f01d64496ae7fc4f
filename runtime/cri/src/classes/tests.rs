use std::os::unix::fs::PermissionsExt;

use protocol::cri::{LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceOption};

use super::*;

/// The classes of a node with these settings, whose shims are there.
fn classes(settings: &str) -> Result<Classes, Fault> {
    let dir = tempfile::tempdir().unwrap();
    for name in ["containerd-shim-cuddy-v2", "containerd-shim-runc-v2"] {
        let file = dir.path().join(name);
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let daemon = Arc::new(Daemon {
        namespace: api::Namespace::new("test").unwrap(),
        address: String::new(),
        events: String::new(),
        publish_binary: "/bin/true".into(),
        log_level: log::Level::Info,
        socket_dir: None,
        version: String::new(),
        environment: Vec::new(),
    });
    let settings = Settings::parse(settings, Path::new("/x.toml")).unwrap();
    let daemons = [Arc::clone(&daemon), daemon];
    Classes::find(dir.path().as_os_str(), &daemons, &settings, CgroupDriver::Systemd)
}

fn pod(network: i32, privileged: bool) -> PodSandboxConfig {
    let namespace_options = Some(NamespaceOption { network, ..NamespaceOption::default() });
    let context =
        LinuxSandboxSecurityContext { namespace_options, privileged, ..Default::default() };
    let linux = LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() };
    PodSandboxConfig { linux: Some(linux), ..PodSandboxConfig::default() }
}

const RUNC: &str = "[handlers.runc]\nruntime_type = \"io.containerd.runc.v2\"\n";

#[test]
fn pods_without_a_handler_go_where_they_can_run() {
    let with = classes(&format!("host_pods = \"runc\"\n{RUNC}")).unwrap();
    let without = classes(RUNC).unwrap();
    let chosen = |classes: &Classes, name: &str, pod: &PodSandboxConfig| {
        classes.choose(name, pod).map(|class| class.name.to_string())
    };
    let (plain, network, privileged) = (pod(0, false), pod(2, false), pod(0, true));
    for (pod, expected) in [(&plain, "cuddy"), (&network, "runc"), (&privileged, "runc")] {
        assert_eq!(chosen(&with, "", pod).unwrap(), expected);
        assert_eq!(chosen(&with, "cuddy", pod).unwrap(), "cuddy", "who names one gets it");
        assert_eq!(chosen(&with, "runc", pod).unwrap(), "runc");
        assert_eq!(chosen(&without, "", pod).unwrap(), "cuddy");
    }
    let error = chosen(&with, "kata", &plain).unwrap_err().to_string();
    assert!(error.contains("there are \"cuddy\", \"runc\""), "{error}");
}

#[test]
fn pod_stays_with_its_class_whatever_the_settings_say_later() {
    let classes = classes(RUNC).unwrap();
    let row = |handler: &str, class: &str| row::Pod {
        handler: handler.to_owned(),
        class: class.to_owned(),
        ..row::Pod::default()
    };
    assert_eq!(&*classes.of(&row("", "runc")).unwrap().name, "runc");
    assert_eq!(&*classes.of(&row("", "")).unwrap().name, "cuddy");
    assert_eq!(&*classes.of(&row("runc", "")).unwrap().name, "runc");
}

#[test]
fn missing_shim_is_told_with_its_handler() {
    let error = classes("[handlers.kata]\nruntime_type = \"io.containerd.kata.v2\"\n").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("\"kata\"") && text.contains("containerd-shim-kata-v2"), "{text}");
}

#[test]
fn names_are_looked_up_as_asked_for_or_as_the_node_does() {
    let node = |_: &Path| cni::Dns { nameservers: vec!["192.0.2.1".into()], ..Default::default() };
    let own = DnsConfig { options: vec!["ndots:5".into()], ..DnsConfig::default() };
    assert_eq!(dns(Some(own.clone()), node), own);
    for none in [None, Some(DnsConfig::default())] {
        assert_eq!(dns(none, node).servers, ["192.0.2.1"]);
    }
}
