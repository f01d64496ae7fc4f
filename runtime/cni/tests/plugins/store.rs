//! An attachment outlives changes of the configuration and restarts.

use cni::{Attachment, Capabilities};

use crate::ground::Ground;

#[tokio::test]
async fn stored_attachment_is_detached_as_it_was_attached() {
    let ground = Ground::new();
    ground.good_plugin("a");
    ground.good_plugin("b");
    std::fs::create_dir(ground.path("net.d/net")).unwrap();
    ground.write("net/b.conf", r#"{"type": "b", "capabilities": {"mac": true}}"#);
    let conf = ground.conf_of(r#""cniVersion": "1.0.0", "plugins": [{"type": "a", "x": 1}]"#);
    let capabilities = Capabilities::default().mac("02:00:00:00:00:01");
    let pod = cni::Pod { capabilities, ..ground.pod() };
    let mut attachment = Attachment::new(&conf, &pod).unwrap();
    let before = serde_json::to_string(&attachment).unwrap();
    ground.plugins().attach(&mut attachment).await.unwrap();
    let stored = serde_json::to_string(&attachment).unwrap();
    drop((attachment, conf));
    std::fs::remove_dir_all(ground.path("net.d")).unwrap();
    let attachment: Attachment = serde_json::from_str(&stored).unwrap();
    assert_eq!(attachment.addresses().len(), 1);
    assert_eq!((attachment.id(), attachment.interface()), ("0123", "eth0"));
    assert_eq!(attachment.netns(), ground.path("netns"));
    ground.plugins().detach(&attachment).await.unwrap();
    assert_eq!(ground.calls()[2..], ["b-DEL", "a-DEL"]);
    let told = ground.input("a-DEL");
    assert_eq!(
        (&told["x"], &told["prevResult"]["ips"][0]["address"]),
        (&1.into(), &"10.0.0.2/24".into())
    );
    assert_eq!(ground.input("b-DEL")["runtimeConfig"]["mac"], "02:00:00:00:00:01");
    // What was stored before ADD serves if the daemon ended during it.
    let early: Attachment = serde_json::from_str(&before).unwrap();
    assert!(early.result().is_none());
    ground.plugins().detach(&early).await.unwrap();
    assert_eq!(ground.calls()[4..], ["b-DEL", "a-DEL"]);
}

#[test]
fn damaged_attachment_says_what_is_wrong() {
    let ground = Ground::new();
    let attachment = ground.attachment(&ground.conf("1.0.0", &["a"]));
    let mut stored = serde_json::to_value(&attachment).unwrap();
    stored["result"] = "{".into();
    let error = serde_json::from_value::<Attachment>(stored.clone()).unwrap_err().to_string();
    assert!(error.starts_with("a stored attachment: EOF"), "{error}");
    stored["conf"] = "{}".into();
    let error = serde_json::from_value::<Attachment>(stored).unwrap_err().to_string();
    assert!(error.contains("10-net.conflist: name: the network has none"), "{error}");
}
