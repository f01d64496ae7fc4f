//! The configuration's directory, while it changes, and what is said of the network's readiness.

use std::fs;
use std::future::Future;

use cni::{NodeNetwork, Readiness};

use crate::ground::{Ground, PATIENT};

const A: &str = r#"{"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "a"}]}"#;
const B: &str = r#"{"cniVersion": "1.0.0", "name": "b", "plugins": [{"type": "a"}]}"#;

/// Does `test` while the network follows its directory.
async fn following(network: &NodeNetwork, test: impl Future<Output = ()>) {
    let test = tokio::time::timeout(PATIENT, test);
    tokio::select! {
        () = network.follow() => panic!("it follows for ever"),
        done = test => done.expect("no news"),
    }
}

/// Waits until the network is so.
async fn until(network: &NodeNetwork, is_so: impl Fn(&NodeNetwork) -> bool) {
    // A change may be over before it is waited for.
    loop {
        let mut changed = std::pin::pin!(network.changed());
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(changed.as_mut().poll(cx)));
        let is_ready = polled.await.is_ready();
        if is_so(network) {
            return;
        }
        if !is_ready {
            changed.await;
        }
    }
}

fn name(network: &NodeNetwork) -> String {
    network.conf().map_or_else(|_| String::new(), |conf| conf.name().to_owned())
}

#[tokio::test]
async fn network_without_configuration_is_not_ready_and_says_why() {
    let ground = Ground::new();
    let directory = ground.path("net.d");
    let text =
        format!("cni plugin not initialized: no network configuration in {}", directory.display());
    let not = |message: &str| Readiness {
        is_ready: false,
        reason: "NetworkPluginNotReady",
        message: message.to_owned(),
    };
    assert_eq!(ground.network().readiness().await, not(&text));
    fs::remove_dir(&directory).unwrap();
    assert_eq!(ground.network().readiness().await, not(&text));
    fs::create_dir(&directory).unwrap();
    ground.write("10-a.conflist", "{");
    let broken = ground.network().readiness().await;
    assert!(!broken.is_ready && broken.message.contains("10-a.conflist: the file: no JSON"));
    ground.write("10-a.conflist", A);
    let missing = ground.network().readiness().await;
    assert!(!missing.is_ready && missing.message.starts_with("CNI plugin a is in none of"));
    ground.good_plugin("a");
    let ready = Readiness { is_ready: true, reason: "", message: String::new() };
    assert_eq!(ground.network().readiness().await, ready);
    assert!(ground.calls().is_empty(), "STATUS is unknown before 1.1.0");
}

#[tokio::test]
async fn plugins_are_asked_for_their_status() {
    let ground = Ground::new();
    ground.good_plugin("a");
    ground.plugin("b", r#"echo '{"code": 50, "msg": "no daemon"}'; exit 1"#);
    ground.conf("1.1.0", &["a", "b"]);
    let network = ground.network();
    let readiness = network.readiness().await;
    assert!(!readiness.is_ready && readiness.reason == "NetworkPluginNotReady");
    assert_eq!(readiness.message, "CNI plugin b failed to STATUS: no daemon (code 50)");
    assert_eq!(ground.calls(), ["a-STATUS", "b-STATUS"]);
}

#[tokio::test]
async fn first_file_that_can_be_read_counts() {
    let ground = Ground::new();
    ground.good_plugin("a");
    ground.write("10-broken.conf", "{");
    ground.write("20-b.conflist", B);
    ground.write("30-a.conflist", A);
    let network = ground.network();
    assert_eq!(name(&network), "b");
    let readiness = network.readiness().await;
    assert!(readiness.is_ready && readiness.message.contains("10-broken.conf"), "{readiness:?}");
}

#[tokio::test]
async fn change_is_followed_and_a_broken_file_replaces_nothing() {
    let ground = Ground::new();
    ground.good_plugin("a");
    ground.write("10-net.conflist", A);
    let network = ground.network();
    following(&network, async {
        ground.write("10-net.conflist", B);
        until(&network, |network| name(network) == "b").await;
        ground.write("05-first.conflist", A);
        until(&network, |network| name(network) == "a").await;
        fs::remove_file(ground.path("net.d/05-first.conflist")).unwrap();
        until(&network, |network| name(network) == "b").await;
        ground.write(".new", "{");
        fs::rename(ground.path("net.d/.new"), ground.path("net.d/10-net.conflist")).unwrap();
        network.changed().await;
        assert_eq!(name(&network), "b", "the last good one");
        let readiness = network.readiness().await;
        assert!(readiness.is_ready && readiness.message.contains("no JSON"), "{readiness:?}");
        fs::rename(ground.path("net.d/10-net.conflist"), ground.path("net.d/11-net.conf")).unwrap();
        network.changed().await;
        assert_eq!(name(&network), "b", "nor does another broken one");
        ground.write("11-net.conf", r#"{"name": "c", "type": "a"}"#);
        until(&network, |network| name(network) == "c").await;
        assert_eq!(network.readiness().await.message, "");
        fs::remove_file(ground.path("net.d/11-net.conf")).unwrap();
        until(&network, |network| network.conf().is_err()).await;
        assert!(!network.readiness().await.is_ready);
    })
    .await;
}

#[tokio::test]
async fn broken_file_that_was_in_use_is_not_replaced_by_a_later_one() {
    let ground = Ground::new();
    ground.write("10-net.conflist", A);
    ground.write("20-net.conflist", B);
    let network = ground.network();
    following(&network, async {
        ground.write(".new", "{");
        fs::rename(ground.path("net.d/.new"), ground.path("net.d/10-net.conflist")).unwrap();
        network.changed().await;
        assert_eq!(name(&network), "a");
        fs::remove_file(ground.path("net.d/10-net.conflist")).unwrap();
        until(&network, |network| name(network) == "b").await;
    })
    .await;
}

#[tokio::test]
async fn directory_may_come_go_and_come_again() {
    let ground = Ground::new();
    let network = NodeNetwork::open(ground.path("etc/cni/net.d"), ground.plugins());
    let file = ground.path("etc/cni/net.d/10-net.conflist");
    let directory = file.parent().unwrap();
    following(&network, async {
        assert!(network.conf().is_err());
        for text in [A, B] {
            fs::create_dir_all(directory).unwrap();
            fs::write(&file, text).unwrap();
            until(&network, |network| network.conf().is_ok()).await;
            until(&network, |network| text.contains(&format!(r#""{}""#, name(network)))).await;
            fs::remove_dir_all(ground.path("etc")).unwrap();
            until(&network, |network| network.conf().is_err()).await;
        }
        // As a whole, from elsewhere.
        fs::create_dir_all(ground.path("new/net.d")).unwrap();
        fs::write(ground.path("new/net.d/10-net.conflist"), A).unwrap();
        fs::create_dir(ground.path("etc")).unwrap();
        fs::rename(ground.path("new"), ground.path("etc/cni")).unwrap();
        until(&network, |network| name(network) == "a").await;
        fs::rename(ground.path("etc"), ground.path("away")).unwrap();
        until(&network, |network| network.conf().is_err()).await;
    })
    .await;
}

#[tokio::test]
async fn plugins_beside_the_list_are_followed() {
    let ground = Ground::new();
    ground.write("10-net.conflist", r#"{"name": "net"}"#);
    let network = ground.network();
    let names =
        |network: &NodeNetwork| network.conf().map_or(0, |conf| conf.plugin_names().count());
    following(&network, async {
        assert!(network.conf().is_err());
        fs::create_dir(ground.path("net.d/net")).unwrap();
        ground.write("net/10.conf", r#"{"type": "a"}"#);
        until(&network, |network| names(network) == 1).await;
        ground.write("net/20.conf", r#"{"type": "b"}"#);
        until(&network, |network| names(network) == 2).await;
    })
    .await;
}
