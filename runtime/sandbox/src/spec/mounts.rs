//! `mounts` of a configuration (pure): sources on the host become paths below the shared
//! directory, and are collected to be shown there. What a source needs else, because it is a
//! device or memory, only a look at the host tells: see [`storage`](crate::storage).

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{ContainerId, Error};

/// A path of the host that the container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Index of its entry in `mounts`.
    pub mount: usize,
    /// The host's file, directory or device; a relative path starts at the bundle.
    pub source: PathBuf,
    /// Where the container sees it.
    pub destination: PathBuf,
    /// Whether the mounts below it are seen as well.
    pub recursive: bool,
    /// What the machine may only read.
    pub read_only: ReadOnly,
    /// Whether mounts that the host makes below it later are seen (`HostToContainer`).
    pub follows: bool,
}

/// How much of a bind mount can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    /// Nothing.
    Nothing,
    /// The mount itself, not those below it.
    Itself,
    /// All of it.
    All,
}

/// Rewrites the sources of bind mounts for `container`; what the host has to show there.
///
/// # Errors
/// [`Error::Invalid`] for mounts that shall propagate to the host, and for mapped ids.
pub(super) fn translate(
    spec: &mut Map<String, Value>,
    container: &ContainerId,
) -> Result<Vec<Bind>, Error> {
    let mut binds = Vec::new();
    let mounts = spec.get_mut("mounts").and_then(Value::as_array_mut);
    for (mount, entry) in mounts.into_iter().flatten().enumerate() {
        let Some(entry) = entry.as_object_mut() else { continue };
        let Some(bind) = bind(mount, entry)? else { continue };
        let source = format!("{}/{container}/mounts/{mount}", agent_api::SHARE_DIR);
        entry.insert("source".into(), source.into());
        binds.push(bind);
    }
    Ok(binds)
}

fn bind(mount: usize, entry: &Map<String, Value>) -> Result<Option<Bind>, Error> {
    let options = entry.get("options").and_then(Value::as_array);
    let has = |name: &str| options.is_some_and(|list| list.iter().any(|o| o == name));
    let bind = entry.get("type").is_some_and(|t| t == "bind") || has("bind") || has("rbind");
    let Some(source) = entry.get("source").and_then(Value::as_str).filter(|_| bind) else {
        return Ok(None);
    };
    let destination = entry.get("destination").and_then(Value::as_str).unwrap_or_default();
    if has("rshared") || has("shared") {
        return Err(Error::Invalid(format!(
            "bind mount at {destination:?}: mounts made in a machine can't propagate to the host \
             (Bidirectional, rshared); HostToContainer (rslave) and none can be had"
        )));
    }
    let mapped =
        |key: &str| entry.get(key).and_then(Value::as_array).is_some_and(|m| !m.is_empty());
    if has("idmap") || has("ridmap") || mapped("uidMappings") || mapped("gidMappings") {
        return Err(Error::Invalid(format!(
            "bind mount at {destination:?}: ids of the host's files can't be mapped for a guest \
             (idmap, uidMappings)"
        )));
    }
    let read_only = match (has("rro"), has("ro")) {
        (true, _) => ReadOnly::All,
        (false, true) => ReadOnly::Itself,
        (false, false) => ReadOnly::Nothing,
    };
    Ok(Some(Bind {
        mount,
        source: source.into(),
        destination: destination.into(),
        recursive: has("rbind"),
        read_only,
        follows: has("rslave") || has("slave"),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binds(spec: &mut Value) -> Result<Vec<Bind>, Error> {
        translate(spec.as_object_mut().unwrap(), &ContainerId::new("web").unwrap())
    }

    #[test]
    fn bind_sources_move_below_the_share_and_other_mounts_stay() {
        let mut spec = json!({"mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "bind", "source": "/srv/data",
                "options": ["rbind", "ro"]},
            {"destination": "/f", "type": "none", "source": "/etc/f", "options": ["bind"]},
            {"destination": "/r", "type": "bind", "source": "/srv/r",
                "options": ["rbind", "rro", "rslave"]},
        ]});
        let found = binds(&mut spec).unwrap();
        assert_eq!(spec["mounts"][0]["source"], "proc");
        assert_eq!(spec["mounts"][1]["source"], "/run/cuddy/share/web/mounts/1");
        assert_eq!(spec["mounts"][1]["options"][1], "ro");
        assert_eq!(spec["mounts"][2]["source"], "/run/cuddy/share/web/mounts/2");
        let data = Bind {
            mount: 1,
            source: "/srv/data".into(),
            destination: "/data".into(),
            recursive: true,
            read_only: ReadOnly::Itself,
            follows: false,
        };
        let file = Bind {
            mount: 2,
            source: "/etc/f".into(),
            destination: "/f".into(),
            recursive: false,
            read_only: ReadOnly::Nothing,
            follows: false,
        };
        let all_of_it = Bind {
            mount: 3,
            source: "/srv/r".into(),
            destination: "/r".into(),
            recursive: true,
            read_only: ReadOnly::All,
            follows: true,
        };
        assert_eq!(found, [data, file, all_of_it]);
    }

    #[test]
    fn what_can_not_leave_the_machine_is_refused_by_name() {
        let bind = |options: Value| {
            json!({"mounts": [
                {"destination": "/csi", "type": "bind", "source": "/x", "options": options},
            ]})
        };
        for (option, word) in [("rshared", "Bidirectional"), ("ridmap", "idmap")] {
            let error = binds(&mut bind(json!(["rbind", option]))).unwrap_err().to_string();
            assert!(error.contains("/csi") && error.contains(word), "{error}");
        }
        assert!(binds(&mut bind(json!(["rbind", "rprivate"]))).is_ok());
    }
}
