//! `hooks` of a configuration (pure). The host runs the kinds that belong to it, see
//! [`hooks`](crate::hooks). The others run in the guest. The program of a createContainer hook is
//! the host's by the specification, so it is shown to the guest. The program of a startContainer
//! hook is the container's.

use std::time::Duration;

use api::{ContainerId, Error};
use oci_spec::runtime::Hook;

use super::Document;
use super::mounts::{Bind, ReadOnly};

/// Kinds that run on the host.
const OF_THE_HOST: [&str; 4] = ["prestart", "createRuntime", "poststart", "poststop"];

/// Hooks whose programs are the host's and run in the guest.
const CREATE_CONTAINER: &str = "/hooks/createContainer";

/// Longest time in seconds for which a creation waits for one hook, a day: whatever a deadline is
/// counted in holds it.
const LONGEST: u64 = 86_400;

/// Leaves the guest's hooks; returns the programs of the host to be shown to it.
///
/// # Errors
/// [`Error::Invalid`] for what is no hook.
pub(super) fn translate(spec: &mut Document, container: &ContainerId) -> Result<Vec<Bind>, Error> {
    for kind in OF_THE_HOST {
        spec.remove(&format!("/hooks/{kind}"));
    }
    // Numbers behind those of the mounts are free.
    let first = spec.json("/mounts").as_array().map_or(0, Vec::len);
    let mut binds = Vec::new();
    spec.retain(CREATE_CONTAINER, |number, hook: &mut Hook| {
        let (mount, path) = (first + number, hook.path().clone());
        hook.set_path(format!("{}/{container}/mounts/{mount}", agent_api::SHARE_DIR).into());
        if hook.args().as_ref().is_none_or(Vec::is_empty) {
            hook.set_args(Some(vec![path.to_string_lossy().into_owned()]));
        }
        binds.push(Bind {
            mount,
            source: path.clone(),
            destination: path,
            recursive: false,
            read_only: ReadOnly::All,
            follows: false,
            ids: None,
        });
        Ok(true)
    })?;
    Ok(binds)
}

/// Longest time that the guest takes for a container's createContainer hooks.
///
/// # Errors
/// As [`translate`].
pub(crate) fn time_to_create(spec: &Document) -> Result<Duration, Error> {
    let stated = |hook: &Hook| u64::try_from(hook.timeout()?).ok().filter(|time| *time > 0);
    let hooks = spec.list::<Hook>(CREATE_CONTAINER)?;
    let times = hooks.iter().map(|hook| stated(hook).unwrap_or(agent_api::HOOK_SECONDS));
    Ok(Duration::from_secs(times.map(|time| time.min(LONGEST)).fold(0, u64::saturating_add)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn hooks_of_the_guest_have_their_time() {
        let time = |list: Value| {
            time_to_create(&json!({"hooks": {"createContainer": list}}).into()).unwrap()
        };
        assert_eq!(time_to_create(&Document::default()), Ok(Duration::ZERO));
        assert_eq!(time(Value::Null), Duration::ZERO);
        let hook = |timeout: i64| json!({"path": "/x", "timeout": timeout});
        let list = json!([hook(100), hook(0), {"path": "/x"}]);
        assert_eq!(time(list), Duration::from_secs(200));
        assert_eq!(time(json!([hook(i64::MAX)])), Duration::from_secs(86_400));
    }

    #[test]
    fn programs_of_the_host_are_shown_to_the_guest() {
        let mut spec = Document::from(json!({
            "mounts": [{"destination": "/proc"}],
            "hooks": {
                "prestart": [{"path": "/host"}],
                "createContainer": [{"path": "/usr/bin/one"},
                    {"path": "/usr/bin/two", "args": ["2"], "timeout": 3}],
                "startContainer": [{"path": "/bin/inside"}],
                "poststop": null,
                "ofTheNextVersion": [{"path": "/bin/new"}],
            },
        }));
        let web = ContainerId::new("web").unwrap();
        let binds = translate(&mut spec, &web).unwrap();
        let shown: Vec<_> = binds.iter().map(|bind| (bind.mount, bind.source.clone())).collect();
        assert_eq!(shown, [(1, "/usr/bin/one".into()), (2, "/usr/bin/two".into())]);
        assert!(binds.iter().all(|bind| bind.read_only == ReadOnly::All));
        let share = "/run/cuddy/share/web/mounts";
        assert_eq!(
            *spec.json("/hooks"),
            json!({
                "createContainer": [
                    {"path": format!("{share}/1"), "args": ["/usr/bin/one"]},
                    {"path": format!("{share}/2"), "args": ["2"], "timeout": 3},
                ],
                "startContainer": [{"path": "/bin/inside"}],
                "ofTheNextVersion": [{"path": "/bin/new"}],
            })
        );
    }
}
