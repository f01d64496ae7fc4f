use serde_json::{Value, json};

use super::*;

fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

fn hooks(bundle: &Path, value: &Value) -> Hooks {
    let spec = json!({"hooks": value, "annotations": {"a": "b", "empty": ""}});
    Hooks::from_spec(&spec.into(), "web", bundle).unwrap().unwrap()
}

#[tokio::test]
async fn hooks_run_in_order_with_the_state_and_their_own_environment() {
    let dir = tempfile::tempdir().unwrap();
    let note = |word: &str| shell(&format!("echo {word}$HOME >> order; cat > {word}.json"));
    let hooks = hooks(
        dir.path(),
        &json!({
            "createRuntime": [note("second"), note("third")],
            "prestart": [note("first")],
            "poststart": [note("fourth")],
            "poststop": [note("fifth")],
            "createContainer": [{"path": "relative"}],
        }),
    );
    for moment in [Moment::Create, Moment::Started, Moment::Stopped] {
        hooks.run(moment, 7).await.unwrap();
    }
    let order = std::fs::read_to_string(dir.path().join("order")).unwrap();
    assert_eq!(order, "first\nsecond\nthird\nfourth\nfifth\n");
    let told = |word: &str| -> Value {
        let text = std::fs::read_to_string(dir.path().join(format!("{word}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let first = told("first");
    assert_eq!((&first["id"], &first["pid"]), (&json!("web"), &json!(7)));
    assert_eq!(first["annotations"], json!({"a": "b", "empty": ""}));
    let statuses = ["first", "fourth", "fifth"].map(|word| told(word)["status"].clone());
    assert_eq!(statuses, ["creating", "running", "stopped"]);
    assert!(told("fifth").get("pid").is_none());
}

#[tokio::test]
async fn failure_is_told_with_its_words_and_ends_the_row() {
    let dir = tempfile::tempdir().unwrap();
    let list = json!([shell("echo bad luck >&2; exit 3"), shell("echo > never")]);
    let hooks = hooks(dir.path(), &json!({"createRuntime": list, "poststop": list}));
    let error = hooks.run(Moment::Create, 7).await.unwrap_err().to_string();
    assert!(error.contains("exit status: 3: bad luck"), "{error}");
    assert!(!dir.path().join("never").exists());
    hooks.run(Moment::Stopped, 7).await.unwrap();
    assert!(dir.path().join("never").exists());
}

#[tokio::test]
async fn hook_has_a_time_limit_and_may_leave_children() {
    let dir = tempfile::tempdir().unwrap();
    let mut slow = shell("exec sleep 100");
    slow["timeout"] = json!(1);
    let began = std::time::Instant::now();
    let slow = hooks(dir.path(), &json!({"prestart": [slow]}));
    let error = slow.run(Moment::Create, 7).await.unwrap_err().to_string();
    assert!(error.contains("not done after 1 s"), "{error}");
    let leaving = hooks(dir.path(), &json!({"prestart": [shell("sleep 20 & exit 0")]}));
    leaving.run(Moment::Create, 7).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[test]
fn bad_hooks_are_refused_and_none_are_fine() {
    for bad in [
        json!({"prestart": [{"path": "hook"}]}),
        json!({"poststop": [{"path": "/hook", "timeout": 0}]}),
        json!({"poststop": [{"path": "/hook", "timeout": -1}]}),
        json!({"createRuntime": "x"}),
    ] {
        let spec = json!({"hooks": bad}).into();
        assert!(Hooks::from_spec(&spec, "web", Path::new("/b")).is_err(), "{bad}");
    }
    for none in [
        json!({}),
        json!({"hooks": null}),
        json!({"hooks": {"prestart": null, "startContainer": [{"path": "/x"}]}}),
    ] {
        assert_eq!(Hooks::from_spec(&none.into(), "web", Path::new("/b")), Ok(None));
    }
}
