use serde_json::json;

use super::*;

fn id() -> ContainerId {
    ContainerId::new("web").unwrap()
}

fn translated(host: Value) -> GuestSpec {
    translate(host, &id(), "/run/cuddy/share/web/rootfs").unwrap()
}

#[test]
fn root_and_cgroup_get_guest_paths_and_unknown_fields_survive() {
    let guest = translated(json!({
        "ociVersion": "1.2.0",
        "process": {"args": ["sh"], "terminal": true, "future": 1},
        "root": {"path": "rootfs", "readonly": true},
        "linux": {"cgroupsPath": "system.slice:cri:web", "sysctl": {"a": "b"}},
    }));
    assert_eq!(guest.spec["root"]["path"], "/run/cuddy/share/web/rootfs");
    assert_eq!(guest.spec["root"]["readonly"], true);
    assert_eq!(guest.spec["process"]["future"], 1);
    assert_eq!(guest.spec["linux"]["cgroupsPath"], "/cuddy/web");
    assert_eq!(guest.spec["linux"]["sysctl"]["a"], "b");
    assert!(guest.notes.is_empty(), "{:?}", guest.notes);
}

#[test]
fn name_of_the_pod_is_set_only_where_it_can_be() {
    let own = json!({"process": {}, "hostname": "a", "linux": {"namespaces": [{"type": "uts"}]}});
    assert_eq!(translated(own).spec["hostname"], "a");
    let pods = json!({"process": {}, "hostname": "a", "linux": {"namespaces": [
        {"type": "uts", "path": "/run/cuddy/ns/container/db/uts"},
    ]}});
    assert!(translated(pods).spec.get("hostname").is_none());
}

#[test]
fn what_can_not_apply_in_a_guest_is_dropped_with_a_note_each() {
    let guest = translated(json!({
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
    assert_eq!(guest.notes.len(), 7, "{:#?}", guest.notes);
    assert_eq!(guest.spec["linux"]["devices"].as_array().unwrap().len(), 1);
    assert_eq!(guest.spec["linux"]["resources"]["cpu"], json!({"quota": 1000}));
    assert_eq!(guest.spec["linux"]["resources"]["blockIO"], json!({"weight": 10}));
    assert_eq!(guest.spec["linux"]["resources"]["unified"], json!({"memory.high": "1"}));
    assert!(guest.spec["process"].get("selinuxLabel").is_none());
    // Whether the guest can have it only a look at the host tells.
    assert_eq!(guest.spec["process"]["apparmorProfile"], "cri-containerd.apparmor.d");
}

#[test]
fn empty_hooks_and_labels_are_not_worth_a_note() {
    let guest = translated(json!({
        "process": {"selinuxLabel": ""}, "hooks": {"prestart": []}, "linux": {"mountLabel": ""},
    }));
    assert!(guest.notes.is_empty(), "{:?}", guest.notes);
}

#[test]
fn seccomp_notification_is_refused() {
    let host = json!({"process": {}, "linux": {"seccomp": {"listenerPath": "/run/agent.sock"}}});
    let error = translate(host, &id(), "/r").unwrap_err().to_string();
    assert!(error.contains("listenerPath"), "{error}");
}

#[test]
fn configuration_without_a_process_is_refused() {
    for host in [json!([]), json!({}), json!({"process": "sh"})] {
        assert!(matches!(translate(host, &id(), "/r"), Err(Error::Invalid(_))));
    }
}
