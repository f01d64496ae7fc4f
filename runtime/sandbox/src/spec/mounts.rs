//! `mounts` of a configuration (pure): sources on the host become paths below the shared
//! directory, and are collected to be shown there.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::ContainerId;

/// A path of the host that the container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The host's file or directory.
    pub source: PathBuf,
    /// Whether the mounts below it are seen as well.
    pub recursive: bool,
    /// Whether the machine may only read it.
    pub read_only: bool,
}

/// Rewrites the sources of bind mounts for `container`; what the host has to show there, by index.
pub(super) fn translate(spec: &mut Map<String, Value>, container: &ContainerId) -> Vec<Bind> {
    let mut binds = Vec::new();
    let mounts = spec.get_mut("mounts").and_then(Value::as_array_mut);
    for mount in mounts.into_iter().flatten().filter_map(Value::as_object_mut) {
        let options = mount.get("options").and_then(Value::as_array);
        let has = |name: &str| options.is_some_and(|list| list.iter().any(|o| o == name));
        let bind = mount.get("type").is_some_and(|t| t == "bind") || has("bind") || has("rbind");
        let Some(source) = mount.get("source").and_then(Value::as_str).filter(|_| bind) else {
            continue;
        };
        let read_only = has("ro") || has("rro");
        binds.push(Bind { source: source.into(), recursive: has("rbind"), read_only });
        let index = binds.len() - 1;
        let source = format!("{}/{container}/mounts/{index}", agent_api::SHARE_DIR);
        mount.insert("source".into(), source.into());
    }
    binds
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bind_sources_move_below_the_share_and_other_mounts_stay() {
        let mut spec = json!({"mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "ro"]},
            {"destination": "/f", "type": "none", "source": "/etc/f", "options": ["bind"]},
            {"destination": "/r", "type": "bind", "source": "/srv/r", "options": ["rbind", "rro"]},
        ]});
        let binds = translate(spec.as_object_mut().unwrap(), &ContainerId::new("web").unwrap());
        assert_eq!(spec["mounts"][0]["source"], "proc");
        assert_eq!(spec["mounts"][1]["source"], "/run/cuddy/share/web/mounts/0");
        assert_eq!(spec["mounts"][1]["options"][1], "ro");
        assert_eq!(spec["mounts"][2]["source"], "/run/cuddy/share/web/mounts/1");
        let data = Bind { source: "/srv/data".into(), recursive: true, read_only: true };
        let file = Bind { source: "/etc/f".into(), recursive: false, read_only: false };
        let all_of_it = Bind { source: "/srv/r".into(), recursive: true, read_only: true };
        assert_eq!(binds, [data, file, all_of_it]);
    }
}
