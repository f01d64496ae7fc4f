use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, Mount};
use serde_json::json;

use super::*;

#[test]
fn change_leaves_all_else_as_it_was_written() {
    let mut document = Document::from(json!({"mounts": [{
        "destination": "/d", "type": "", "source": null, "options": ["x"], "new": [null],
        "uidMappings": [{"containerID": 1, "new": 1}], "gidMappings": [],
    }]}));
    let before = document.clone();
    document.edit("/mounts/0", |_: &mut Mount| ()).unwrap();
    assert_eq!(document, before);
    let change = |mount: &mut Mount| {
        mount.set_source(Some("/s".into())).set_gid_mappings(None);
    };
    document.edit("/mounts/0", change).unwrap();
    let expected = json!([{
        "destination": "/d", "type": "", "source": "/s", "options": ["x"], "new": [null],
        "uidMappings": [{"containerID": 1, "new": 1}],
    }]);
    assert_eq!(*document.json("/mounts"), expected);
    document.edit("/mounts/7", change).unwrap();
    assert_eq!(*document.json("/mounts"), expected, "there is no such mount");
}

#[test]
fn entries_that_are_left_keep_what_nobody_knows() {
    let mut document = Document::from(json!({"devices": [
        {"type": "c", "path": "/a", "fileMode": null, "new": 1},
        {"type": "b", "path": "/b"},
        {"type": "p", "path": "/c", "new": {"a": null}},
    ]}));
    let mut seen = Vec::new();
    let change = |index: usize, device: &mut LinuxDevice| {
        seen.push(index);
        device.set_uid(Some(5));
        Ok(device.path() != Path::new("/b"))
    };
    document.retain("/devices", change).unwrap();
    assert_eq!(seen, [0, 1, 2]);
    let expected = json!([
        {"type": "c", "path": "/a", "fileMode": null, "new": 1, "uid": 5},
        {"type": "p", "path": "/c", "new": {"a": null}, "uid": 5},
    ]);
    assert_eq!(*document.json("/devices"), expected);
    let refuse = |_: usize, _: &mut LinuxDevice| Err(Error::Invalid("no".into()));
    assert_eq!(document.retain("/devices", refuse), Err(Error::Invalid("no".into())));
    document.retain("/nowhere", refuse).unwrap();
}

#[test]
fn nothing_is_written_in_many_ways() {
    let rule = |json: Value| Document::from(json).get::<LinuxDeviceCgroup>("").unwrap().unwrap();
    let nothing = rule(json!({}));
    assert_eq!(rule(json!({"allow": null, "type": null, "major": null, "access": null})), nothing);
    assert_eq!(rule(json!({"type": "", "new": 1})), nothing);
    let document = Document::from(json!({"null": null, "empty": "", "text": "a", "list": null}));
    for path in ["/null", "/empty", "/nowhere", "/text/deeper"] {
        assert_eq!(document.text(path), Ok(None), "{path}");
    }
    assert_eq!(document.text("/text"), Ok(Some("a".to_owned())));
    assert_eq!(document.list::<String>("/list"), Ok(Vec::new()));
    let error = document.get::<u32>("/text").unwrap_err().to_string();
    assert!(error.contains("/text: invalid type"), "{error}");
}

#[test]
fn what_holds_something_new_is_made_and_never_overwritten() {
    let mut document = Document::from(json!({"null": null, "text": "a"}));
    document.set("/null/a/b", 1).unwrap();
    document.push("/list", &"one").unwrap();
    document.push("/list", &"two").unwrap();
    let expected = json!({"null": {"a": {"b": 1}}, "text": "a", "list": ["one", "two"]});
    assert_eq!(*document.json(""), expected);
    assert!(document.set("/text/a", 1).is_err() && document.push("/text", &"b").is_err());
    assert_eq!(*document.json(""), expected);
}

#[test]
fn what_is_taken_out_says_whether_it_was_anything() {
    let mut document =
        Document::from(json!({"a": {"b": "", "c": [1], "d": {"e": null, "f": []}, "g": 0}}));
    let mut took = |name: &str| document.remove(&format!("/a/{name}"));
    assert_eq!(
        [took("b"), took("c"), took("d"), took("g"), took("h")],
        [false, true, false, true, false]
    );
    assert_eq!(document, json!({"a": {}}).into());
}
