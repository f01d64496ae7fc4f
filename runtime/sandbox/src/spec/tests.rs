use serde_json::json;

use super::*;
use crate::hooks::Hooks;
use crate::{Pod, pod, storage};

const ROOT: &str = "/run/cuddy/share/web/rootfs";

fn id() -> ContainerId {
    ContainerId::new("web").unwrap()
}

/// The guest's configuration, and what was left out.
fn translated(host: Value) -> (Value, Vec<String>) {
    let guest = translate(host.into(), &id(), ROOT).unwrap();
    (guest.spec.json("").clone(), guest.notes)
}

#[test]
fn root_and_cgroup_get_guest_paths_and_unknown_fields_survive() {
    let (spec, notes) = translated(json!({
        "ociVersion": "1.2.0",
        "process": {"args": ["sh"], "terminal": true, "future": 1},
        "root": {"path": "rootfs", "readonly": true},
        "linux": {"cgroupsPath": "system.slice:cri:web", "sysctl": {"a": "b"}},
    }));
    assert_eq!(spec["root"], json!({"path": ROOT, "readonly": true}));
    assert_eq!(spec["process"]["future"], 1);
    assert_eq!(spec["linux"]["cgroupsPath"], "/cuddy/web");
    assert_eq!(spec["linux"]["sysctl"]["a"], "b");
    assert!(notes.is_empty(), "{notes:?}");
}

/// A configuration that runc takes, and the types of `oci-spec` do not in each of its parts.
fn lenient() -> Value {
    let every = json!({"allow": true, "type": "", "major": null, "access": "rwm"});
    json!({
        "ociVersion": "9.9.9-new",
        "newInTheNextVersion": {"a": [null, 1.5, {"b": ""}]},
        "process": {
            "cwd": "/", "args": null, "user": null, "terminal": null,
            "apparmorProfile": "", "oomScoreAdj": null,
            "capabilities": {"bounding": ["CAP_FLY", "CAP_KILL"], "ambient": null},
            "rlimits": [{"type": "RLIMIT_NEW", "hard": 1}],
            "scheduler": {"policy": "SCHED_NEW", "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "execCPUAffinity": {"initial": "", "final": " 5 , 4"},
        },
        "root": {"path": "rootfs", "readonly": null},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": null, "options": null},
            {"destination": "/tmp", "type": "tmpfs", "options": ["new", "size=1k"], "new": [null]},
        ],
        "hooks": {"createContainer": null, "startContainer": [{"path": "/x", "env": null, "new": 1}]},
        "annotations": {"empty": ""},
        "linux": {
            "namespaces": [{"type": "mount", "path": ""}, {"type": "time", "path": null, "new": 1}],
            "devices": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "uid": null,
                "fileMode": null, "new": 1}],
            "uidMappings": null,
            "seccomp": {"defaultAction": "SCMP_ACT_NEW", "listenerPath": "",
                "architectures": ["SCMP_ARCH_NEW"], "flags": ["SECCOMP_FILTER_FLAG_NEW"]},
            "resources": {
                "pids": {},
                "memory": {"limit": -1, "swap": -1, "reservation": null, "new": 1},
                "cpu": {"quota": -1, "period": null, "shares": 2, "idle": 1, "new": 1},
                "hugepageLimits": [{"pageSize": "2MB", "limit": u64::MAX}],
                "unified": {"memory.high": "max"},
                "devices": [{"allow": false, "access": "rwm"}, every],
                "newController": {"limit": 1},
            },
        },
    })
}

#[test]
fn what_runc_takes_reaches_the_guest_as_it_was_written() {
    let mut spec = Document::from(lenient());
    namespaces::check_users(&spec).unwrap();
    assert_eq!(pod::is_sandbox(&spec), Ok(false));
    assert_eq!(Pod::from_spec(&spec), Ok(Pod::default()));
    assert_eq!(Hooks::from_spec(&spec, "web", "/bundle".as_ref()), Ok(None));
    assert_eq!(storage::is_shared(&spec), Ok(false));
    assert_eq!(namespaces::translate(&mut spec, |_| None), Ok(Vec::new()));
    assert_eq!(spec, lenient().into(), "looking changes nothing");
    let guest = translate(spec, &id(), ROOT).unwrap();
    assert_eq!((guest.binds, guest.notes), (Vec::new(), Vec::new()));
    assert_eq!(time_to_create(&guest.spec), Ok(std::time::Duration::ZERO));
    let mut expected = lenient();
    expected["root"]["path"] = ROOT.into();
    expected["linux"]["cgroupsPath"] = "/cuddy/web".into();
    assert_eq!(*guest.spec.json(""), expected);
}

#[test]
fn limits_of_processes_are_never_made_up() {
    for pids in [json!({}), json!({"limit": null}), json!({"limit": 0}), json!({"limit": -1})] {
        let resources = json!({"pids": pids, "memory": {"swap": -1}});
        let mut update = Document::of_resources(resources.clone()).unwrap();
        translate_resources(&mut update, &mut Vec::new()).unwrap();
        assert_eq!(*update.json("/linux/resources"), resources);
    }
}

#[test]
fn name_of_the_pod_is_set_only_where_it_can_be() {
    let name = |namespaces: Value| {
        let linux = json!({"namespaces": namespaces});
        translated(json!({"process": {}, "hostname": "a", "linux": linux})).0["hostname"].take()
    };
    assert_eq!(name(json!([{"type": "uts"}])), "a");
    assert_eq!(name(json!([{"type": "uts", "path": ""}])), "a");
    let pods = json!([{"type": "uts", "path": "/run/cuddy/ns/container/db/uts"}]);
    assert_eq!(name(pods), Value::Null);
}

#[test]
fn what_can_not_apply_in_a_guest_is_dropped_with_a_note_each() {
    let (spec, notes) = translated(json!({
        "process": {"apparmorProfile": "cri-containerd.apparmor.d", "selinuxLabel": "a:b"},
        "linux": {
            "mountLabel": "x",
            "devices": [
                {"type": "c", "path": "/dev/null", "major": 1, "minor": 3},
                {"type": "c", "path": "/dev/nvidia0", "major": 195, "minor": 0},
            ],
            "resources": {
                "cpu": {"cpus": "4-7", "quota": 1000},
                "unified": {"cpuset.cpus": "4-7", "cpuset.mems": "1", "memory.high": "1"},
                "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8}]},
            },
        },
    }));
    assert_eq!(notes.len(), 7, "{notes:#?}");
    assert_eq!(spec["linux"]["devices"].as_array().unwrap().len(), 1);
    assert_eq!(spec["linux"]["resources"]["cpu"], json!({"quota": 1000}));
    assert_eq!(spec["linux"]["resources"]["blockIO"], json!({"weight": 10}));
    assert_eq!(spec["linux"]["resources"]["unified"], json!({"memory.high": "1"}));
    assert!(spec["process"].get("selinuxLabel").is_none());
    // Whether the guest can have it only a look at the host tells.
    assert_eq!(spec["process"]["apparmorProfile"], "cri-containerd.apparmor.d");
}

#[test]
fn empty_hooks_and_labels_are_not_worth_a_note() {
    let (_, notes) = translated(json!({
        "process": {"selinuxLabel": ""}, "hooks": {"prestart": []}, "linux": {"mountLabel": ""},
    }));
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn seccomp_notification_is_refused() {
    let host = json!({"process": {}, "linux": {"seccomp": {"listenerPath": "/run/agent.sock"}}});
    let error = translate(host.into(), &id(), "/r").unwrap_err().to_string();
    assert!(error.contains("listenerPath"), "{error}");
}

#[test]
fn configuration_without_a_process_is_refused() {
    assert!(matches!(Document::new(json!([]), "config.json"), Err(Error::Invalid(_))));
    for host in [json!({}), json!({"process": "sh"})] {
        assert!(matches!(translate(host.into(), &id(), "/r"), Err(Error::Invalid(_))));
    }
}

#[test]
fn what_runc_refuses_is_refused_with_its_place() {
    for (host, place) in [
        (json!({"mounts": "x"}), "/mounts"),
        (json!({"mounts": [{"destination": 1}]}), "/mounts/0"),
        (
            json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "new"}]}}),
            "/linux/namespaces/1",
        ),
        (json!({"linux": {"devices": [{"path": "/dev/x", "type": "x"}]}}), "/linux/devices/0"),
        (json!({"hooks": {"createContainer": [{"path": []}]}}), "/hooks/createContainer/0"),
        (json!({"linux": "x"}), "/linux/cgroupsPath"),
    ] {
        let mut host = host;
        host["process"] = json!({});
        let error = translate(host.into(), &id(), "/r").unwrap_err().to_string();
        assert!(error.contains(&format!(" {place}: ")), "{error}");
    }
}
