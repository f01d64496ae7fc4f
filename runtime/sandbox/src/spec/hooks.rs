//! `hooks` of a configuration (pure): the host runs the kinds that belong to it, see
//! [`hooks`](crate::hooks); the others run in the guest. The program of a createContainer hook is
//! the host's by the specification, so it is shown to the guest; that of a startContainer hook is
//! the container's.

use std::time::Duration;

use api::ContainerId;
use serde_json::{Map, Value};

use super::mounts::{Bind, ReadOnly};

/// Kinds that run in the guest.
const OF_THE_GUEST: [&str; 2] = ["createContainer", "startContainer"];

/// Longest time in seconds for which a creation waits for one hook, a day: whatever a deadline is
/// counted in holds it.
const LONGEST: u64 = 86_400;

/// Leaves the guest's hooks; returns the programs of the host to be shown to it.
pub(super) fn translate(spec: &mut Map<String, Value>, container: &ContainerId) -> Vec<Bind> {
    // Numbers behind those of the mounts are free.
    let first = spec.get("mounts").and_then(Value::as_array).map_or(0, Vec::len);
    let Some(Value::Object(hooks)) = spec.get_mut("hooks") else { return Vec::new() };
    hooks.retain(|kind, _| OF_THE_GUEST.contains(&kind.as_str()));
    let programs = hooks.get_mut("createContainer").and_then(Value::as_array_mut);
    let programs = programs.into_iter().flatten().filter_map(Value::as_object_mut);
    let show = |(number, hook): (usize, &mut Map<String, Value>)| {
        let path = hook.get("path")?.as_str()?.to_owned();
        let mount = first + number;
        let shown = format!("{}/{container}/mounts/{mount}", agent_api::SHARE_DIR);
        hook.insert("path".into(), shown.into());
        let named = hook.get("args").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        if !named {
            hook.insert("args".into(), vec![path.clone()].into());
        }
        Some(Bind {
            mount,
            source: path.clone().into(),
            destination: path.into(),
            recursive: false,
            read_only: ReadOnly::All,
            follows: false,
            ids: None,
        })
    };
    programs.enumerate().filter_map(show).collect()
}

/// Longest time that the guest takes for a container's createContainer hooks.
pub(crate) fn time_to_create(spec: &Value) -> Duration {
    let hooks = spec.pointer("/hooks/createContainer").and_then(Value::as_array);
    let stated =
        |hook: &Value| hook.get("timeout").and_then(Value::as_u64).filter(|time| *time > 0);
    let times = hooks.into_iter().flatten();
    let times = times.map(|hook| stated(hook).unwrap_or(agent_api::HOOK_SECONDS).min(LONGEST));
    Duration::from_secs(times.fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hooks_of_the_guest_have_their_time() {
        let time = |list: Value| time_to_create(&json!({"hooks": {"createContainer": list}}));
        assert_eq!(time_to_create(&json!({})), Duration::ZERO);
        assert_eq!(time(Value::Null), Duration::ZERO);
        let list = json!([{"timeout": 100}, {"timeout": 0}, {"path": "/x"}]);
        assert_eq!(time(list), Duration::from_secs(200));
        assert_eq!(time(json!([{"timeout": u64::MAX}])), Duration::from_secs(86_400));
    }

    #[test]
    fn programs_of_the_host_are_shown_to_the_guest() {
        let mut spec = json!({
            "mounts": [{"destination": "/proc"}],
            "hooks": {
                "prestart": [{"path": "/host"}],
                "createContainer": [{"path": "/usr/bin/one"},
                    {"path": "/usr/bin/two", "args": ["2"], "timeout": 3}],
                "startContainer": [{"path": "/bin/inside"}],
                "poststop": null,
            },
        });
        let web = ContainerId::new("web").unwrap();
        let binds = translate(spec.as_object_mut().unwrap(), &web);
        let shown: Vec<_> = binds.iter().map(|bind| (bind.mount, bind.source.clone())).collect();
        assert_eq!(shown, [(1, "/usr/bin/one".into()), (2, "/usr/bin/two".into())]);
        assert!(binds.iter().all(|bind| bind.read_only == ReadOnly::All));
        let share = "/run/cuddy/share/web/mounts";
        assert_eq!(
            spec["hooks"],
            json!({
                "createContainer": [
                    {"path": format!("{share}/1"), "args": ["/usr/bin/one"]},
                    {"path": format!("{share}/2"), "args": ["2"], "timeout": 3},
                ],
                "startContainer": [{"path": "/bin/inside"}],
            })
        );
    }
}
