//! `cuddyd --check`: what of the settings this node can't do, each with what to do about it. Nothing
//! is changed, and no pod is looked at.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::{NodeNetwork, Plugins};
use rustix::fs::statfs;

use crate::apparmor;
use crate::listen::Group;
use crate::settings::{Bridge, Settings};

/// Kind of a file system in memory (statfs(2)).
const TMPFS: u64 = 0x0102_1994;

/// The programs that are executed, and what each is for.
const PROGRAMS: [(&str, &str); 2] = [
    ("containerd-shim-cuddy-v2", "runs pods; it is in the same directory as cuddyd"),
    ("mkfs.ext4", "makes containers' disks (Debian: e2fsprogs)"),
];

/// Everything that is wrong, a line each, with the setting's name first; `path` has the form of
/// `PATH`.
pub fn problems(settings: &Settings, path: &OsStr) -> Vec<String> {
    let mut all = Vec::new();
    let directories =
        [("state", &settings.state), ("root", &settings.root), ("socket", &settings.socket)];
    all.extend(directories.into_iter().filter_map(|(key, directory)| place(key, directory)));
    if !in_memory(&settings.state) {
        let state = settings.state.display();
        all.push(format!("state: {state} is not on a tmpfs: a restart of the node must empty it"));
    }
    if !settings.handlers.is_empty() && !overlay::holds_overlays(&settings.root) {
        let root = settings.root.display();
        all.push(format!(
            "root: {root} is on an overlay, which can't hold what containers of other handlers write"
        ));
    }
    if !Group::find(&settings.group).exists() {
        let group = &settings.group;
        all.push(format!(
            "group: there is no {group:?}, so only root can use the socket: groupadd --system {group}"
        ));
    }
    for (program, what) in PROGRAMS {
        if !std::env::split_paths(path).any(|directory| directory.join(program).is_file()) {
            all.push(format!("PATH: {program} is missing, which {what}"));
        }
    }
    if !settings.handlers.is_empty() && apparmor::is_there() && apparmor::parser(path).is_none() {
        let parser = apparmor::PARSER;
        all.push(format!(
            "PATH: {parser} is missing, which loads the default AppArmor profile of containers \
             under other handlers than ours (Debian: apparmor): they run without it, and who asks \
             for it is refused"
        ));
    }
    all.extend(network(settings));
    all
}

/// The nearest directory that is there already.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Why something can't be made at a path, if it can't.
fn place(key: &str, path: &Path) -> Option<String> {
    let above = existing(path);
    let is_own = above == path && key == "socket";
    (!above.is_dir() && !is_own).then(|| format!("{key}: {} is no directory", above.display()))
}

fn in_memory(path: &Path) -> bool {
    statfs(existing(path)).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS))
}

/// What is wrong with the pods' network.
fn network(settings: &Settings) -> Vec<String> {
    let plugins = Plugins::new(settings.cni_bin_dirs.clone(), Duration::ZERO);
    let cni = NodeNetwork::open(settings.cni_conf_dir.clone(), plugins);
    let conf = match cni.conf() {
        Ok(conf) => conf,
        Err(error) if !cni.is_empty() => return vec![format!("cni_conf_dir: {}", error.whole())],
        Err(error) if settings.bridge == Bridge::Never => {
            return vec![format!("cni_conf_dir: {}: no pod has a network", error.whole())];
        }
        Err(_) => return Vec::new(),
    };
    let is_there =
        |plugin: &str| settings.cni_bin_dirs.iter().any(|dir| dir.join(plugin).is_file());
    let missing = conf.plugin_names().filter(|plugin| !is_there(plugin));
    let problem = |plugin| {
        let file = conf.path().display();
        format!("cni_bin_dirs: none has the plugin {plugin:?}, which {file} names")
    };
    missing.map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_named_by_its_setting() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("net.d")).unwrap();
        let conf = r#"{"cniVersion":"1.0.0","name":"n","type":"nosuch"}"#;
        std::fs::write(at("net.d/1.conf"), conf).unwrap();
        let settings = Settings {
            state: "/proc/cuddy".into(),
            root: at("file").join("root"),
            socket: at("cri.sock"),
            group: "no-such-group".into(),
            cni_conf_dir: at("net.d"),
            cni_bin_dirs: vec![at("bin")],
            ..Settings::default()
        };
        let found = problems(&settings, directory.path().as_os_str());
        for expected in [
            "state: /proc/cuddy is not on a tmpfs",
            "file is no directory",
            "group: there is no \"no-such-group\"",
            "PATH: containerd-shim-cuddy-v2 is missing",
            "PATH: mkfs.ext4 is missing",
            "none has the plugin \"nosuch\"",
        ] {
            assert!(found.iter().any(|line| line.contains(expected)), "{expected}: {found:#?}");
        }
        assert_eq!(found.len(), 6, "{found:#?}");
    }

    #[test]
    fn node_without_cni_is_well_unless_it_may_have_no_other_network() {
        let directory = tempfile::tempdir().unwrap();
        let cni_conf_dir = directory.path().join("net.d");
        let settings = Settings { cni_conf_dir, ..Settings::default() };
        assert!(network(&settings).is_empty());
        let never = Settings { bridge: Bridge::Never, ..settings };
        assert!(network(&never)[0].contains("no pod has a network"));
    }
}
