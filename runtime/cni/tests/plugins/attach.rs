//! Chains: order, results, what each plugin is told, and what follows a failure.

use cni::{Attachment, Capabilities, Error, Verb, Version};
use serde_json::{Value, json};

use crate::ground::{Ground, RESULT};

#[tokio::test]
async fn plugins_are_added_in_order_and_deleted_in_reverse_with_the_result() {
    let ground = Ground::new();
    ground.good_plugin("first");
    ground.plugin(
        "second",
        r#"[ $CNI_COMMAND != ADD ] || echo '{"cniVersion": "1.0.0", "last": true,
            "ips": [{"address": "10.0.0.3/24"}]}'"#,
    );
    let conf = ground.conf("1.0.0", &["first", "second"]);
    let mut attachment = ground.attachment(&conf);
    assert!(attachment.result().is_none() && attachment.addresses().is_empty());
    ground.plugins().attach(&mut attachment).await.unwrap();
    assert_eq!(attachment.addresses(), ["10.0.0.3".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(ground.input("first-ADD").get("prevResult"), None);
    let result: Value = serde_json::from_str(RESULT).unwrap();
    assert_eq!(ground.input("second-ADD")["prevResult"], result);
    ground.plugins().check(&attachment).await.unwrap();
    ground.plugins().detach(&attachment).await.unwrap();
    let calls =
        ["first-ADD", "second-ADD", "first-CHECK", "second-CHECK", "second-DEL", "first-DEL"];
    assert_eq!(ground.calls(), calls);
    for call in ["first-CHECK", "second-CHECK", "first-DEL", "second-DEL"] {
        assert_eq!(ground.input(call)["prevResult"]["last"], true, "{call}");
    }
}

#[tokio::test]
async fn environment_is_that_of_the_specification() {
    let ground = Ground::new();
    ground.plugin("a", &format!("echo '{}'", RESULT.replace('\n', " ")));
    let conf = ground.conf("1.1.0", &["a"]);
    let mut attachment = ground.attachment(&conf);
    let netns = ground.path("netns").display().to_string();
    network::pin(&ground.path("netns")).unwrap();
    let plugins = ground.plugins();
    plugins.attach(&mut attachment).await.unwrap();
    let args = "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;\
                K8S_POD_INFRA_CONTAINER_ID=0123;K8S_POD_UID=77";
    let path =
        format!("CNI_PATH={}:{}", ground.path("elsewhere").display(), ground.path("bin").display());
    let expected = |command: &str, netns: &str| {
        let (command, netns) = (format!("CNI_COMMAND={command}"), format!("CNI_NETNS={netns}"));
        let id = "CNI_CONTAINERID=0123".to_owned();
        vec![args.to_owned(), command, id, "CNI_IFNAME=eth0".to_owned(), netns, path.clone()]
    };
    assert_eq!(ground.environment("a-ADD"), expected("ADD", &netns));
    plugins.check(&attachment).await.unwrap();
    assert_eq!(ground.environment("a-CHECK"), expected("CHECK", &netns));
    plugins.detach(&attachment).await.unwrap();
    assert_eq!(ground.environment("a-DEL"), expected("DEL", &netns));
    network::unpin(&ground.path("netns")).unwrap();
    plugins.detach(&attachment).await.unwrap();
    assert_eq!(ground.environment("a-DEL"), expected("DEL", ""), "the namespace is gone");
    std::fs::write(ground.path("netns"), "").unwrap();
    plugins.detach(&attachment).await.unwrap();
    assert_eq!(ground.environment("a-DEL"), expected("DEL", ""), "a file is no namespace");
    plugins.status(&conf).await.unwrap();
    assert_eq!(ground.environment("a-STATUS"), ["CNI_COMMAND=STATUS".to_owned(), path.clone()]);
    plugins.collect(&conf, [&attachment]).await.unwrap();
    assert_eq!(ground.environment("a-GC"), ["CNI_COMMAND=GC".to_owned(), path]);
}

#[tokio::test]
async fn capabilities_are_told_to_plugins_that_declare_them() {
    let ground = Ground::new();
    ground.good_plugin("a");
    ground.good_plugin("b");
    let conf = ground.conf_of(
        r#""cniVersion": "1.0.0", "plugins": [{"type": "a"},
            {"type": "b", "capabilities": {"mac": true, "ips": true, "aliases": false}}]"#,
    );
    let capabilities = Capabilities::default().mac("02:00:00:00:00:01").aliases(&["w".to_owned()]);
    let pod = cni::Pod { capabilities, ..ground.pod() };
    let mut attachment = Attachment::new(&conf, &pod).unwrap();
    ground.plugins().attach(&mut attachment).await.unwrap();
    ground.plugins().detach(&attachment).await.unwrap();
    for call in ["ADD", "DEL"] {
        assert_eq!(ground.input(&format!("a-{call}")).get("runtimeConfig"), None);
        let told = &ground.input(&format!("b-{call}"))["runtimeConfig"];
        assert_eq!(told, &json!({"mac": "02:00:00:00:00:01"}));
    }
}

#[tokio::test]
async fn half_failed_add_is_followed_by_del_of_the_whole_chain() {
    let ground = Ground::new();
    ground.good_plugin("a");
    ground.plugin(
        "b",
        r#"[ $CNI_COMMAND = DEL ] || { echo '{"code": 7, "msg": "no way"}'; exit 1; }"#,
    );
    ground.good_plugin("c");
    let conf = ground.conf("1.0.0", &["a", "b", "c"]);
    let mut attachment = ground.attachment(&conf);
    let error = ground.plugins().attach(&mut attachment).await.unwrap_err();
    assert_eq!(error.to_string(), "CNI plugin b failed to ADD: no way (code 7)");
    assert!(matches!(error, Error::Attach { cleanup: None, .. }));
    assert_eq!(ground.calls(), ["a-ADD", "b-ADD", "c-DEL", "b-DEL", "a-DEL"]);
    assert!(attachment.result().is_none());
    assert_eq!(ground.input("a-DEL").get("prevResult"), None, "there is no result");
}

#[tokio::test]
async fn failure_of_undoing_is_reported_beside() {
    let ground = Ground::new();
    ground.plugin("a", "echo on fire >&2; exit 3");
    let conf = ground.conf("1.0.0", &["a"]);
    let error = ground.plugins().attach(&mut ground.attachment(&conf)).await.unwrap_err();
    let Error::Attach { cause, cleanup: Some(cleanup) } = &error else { panic!("{error:?}") };
    assert!(matches!(**cause, Error::Failed { verb: Verb::Add, .. }));
    assert!(matches!(**cleanup, Error::Failed { verb: Verb::Del, .. }));
    let said = "CNI plugin a failed to ADD: exit status: 3: on fire; undoing it failed, too: CNI \
                plugin a failed to DEL: exit status: 3: on fire";
    assert_eq!(error.to_string(), said);
}

#[tokio::test]
async fn rubbish_of_a_plugin_that_succeeds_is_a_failure() {
    let ground = Ground::new();
    for (output, problem) in [
        ("", "there is none"),
        ("hello", "it is no JSON object: hello"),
        (r#"{"ips": [{"address": "x"}]}"#, "ips[0].address: 'x' is no address with a prefix"),
        (r#"{"cniVersion": "0.2.0"}"#, "it is in version 0.2.0, which says nothing to plugins"),
    ] {
        ground.plugin("a", &format!("printf %s '{output}'"));
        let conf = ground.conf("1.0.0", &["a"]);
        let error = ground.plugins().attach(&mut ground.attachment(&conf)).await.unwrap_err();
        let text = format!("CNI plugin a, answer to ADD: {problem}");
        assert!(error.to_string().starts_with(&text), "{error}");
        assert_eq!(ground.calls().last().map(String::as_str), Some("a-DEL"));
    }
}

#[tokio::test]
async fn del_stops_at_a_failure_and_can_be_repeated() {
    let ground = Ground::new();
    ground.good_plugin("a");
    ground.good_plugin("b");
    let conf = ground.conf("0.3.1", &["a", "b"]);
    let mut attachment = ground.attachment(&conf);
    ground.plugins().attach(&mut attachment).await.unwrap();
    ground.plugin("b", "exit 1");
    ground.plugins().detach(&attachment).await.unwrap_err();
    assert_eq!(ground.calls()[2..], ["b-DEL"], "as the specification says");
    ground.good_plugin("b");
    ground.plugins().detach(&attachment).await.unwrap();
    ground.plugins().detach(&attachment).await.unwrap();
    assert_eq!(ground.calls()[3..], ["b-DEL", "a-DEL", "b-DEL", "a-DEL"]);
    assert_eq!(ground.input("b-DEL").get("prevResult"), None, "not before 0.4.0");
    ground.plugins().check(&attachment).await.unwrap();
    assert_eq!(ground.calls().len(), 7, "nor is CHECK asked");
}

#[tokio::test]
async fn check_is_asked_after_add_unless_the_configuration_forbids_it() {
    let ground = Ground::new();
    ground.good_plugin("a");
    let conf = ground.conf("0.4.0", &["a"]);
    let mut attachment = ground.attachment(&conf);
    let early = ground.plugins().check(&attachment).await.unwrap_err().to_string();
    assert_eq!(early, "what CHECK is asked for: it was not attached");
    ground.plugins().attach(&mut attachment).await.unwrap();
    ground.plugin("a", r#"echo '{"code": 100, "msg": "no route"}'; exit 1"#);
    let lost = ground.plugins().check(&attachment).await.unwrap_err().to_string();
    assert_eq!(lost, "CNI plugin a failed to CHECK: no route (code 100)");
    ground.good_plugin("a");
    let fields = r#""cniVersion": "0.4.0", "disableCheck": true, "plugins": [{"type": "a"}]"#;
    let mut quiet = ground.attachment(&ground.conf_of(fields));
    ground.plugins().attach(&mut quiet).await.unwrap();
    ground.plugins().check(&quiet).await.unwrap();
    assert_eq!(ground.calls(), ["a-ADD", "a-CHECK", "a-ADD"]);
}

#[tokio::test]
async fn gc_tells_all_plugins_what_is_attached() {
    let ground = Ground::new();
    ground.plugin("a", "exit 1");
    ground.good_plugin("b");
    let conf = ground.conf("1.1.0", &["a", "b"]);
    let attached = ground.attachment(&conf);
    let errors = ground.plugins().collect(&conf, [&attached]).await.unwrap_err();
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["CNI plugin a failed to GC: exit status: 1"]);
    assert_eq!(ground.calls(), ["a-GC", "b-GC"], "the second one all the same");
    let valid = json!([{"containerID": "0123", "ifname": "eth0"}]);
    for call in ["a-GC", "b-GC"] {
        assert_eq!(ground.input(call)["cni.dev/valid-attachments"], valid);
    }
    ground.plugins().collect(&conf, []).await.unwrap_err();
    assert_eq!(ground.input("b-GC")["cni.dev/valid-attachments"], json!([]));
    let before = ground.calls().len();
    let old = ground.conf("1.0.0", &["a"]);
    ground.plugins().collect(&old, [&attached]).await.unwrap();
    let fields = r#""cniVersion": "1.1.0", "disableGC": true, "plugins": [{"type": "a"}]"#;
    ground.plugins().collect(&ground.conf_of(fields), [&attached]).await.unwrap();
    assert_eq!(ground.calls().len(), before, "neither by an old version nor when forbidden");
}

#[tokio::test]
async fn versions_of_a_plugin_are_asked_for() {
    let ground = Ground::new();
    ground
        .plugin("a", r#"echo '{"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "9.9.9"]}'"#);
    assert_eq!(ground.plugins().versions("a").await.unwrap(), [Version::CHECK]);
    assert_eq!(ground.environment("a-VERSION"), ["CNI_COMMAND=VERSION"]);
    assert_eq!(ground.input("a-VERSION"), json!({"cniVersion": "1.1.0"}));
    ground.plugin("a", "echo '{}'");
    let error = ground.plugins().versions("a").await.unwrap_err().to_string();
    assert_eq!(error, "CNI plugin a, answer to VERSION: there is no list supportedVersions");
}
