use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use cni::Plugins;
use nix::sched::{CloneFlags, unshare};
use protocol::cri::PodSandboxMetadata;

use super::*;

/// Does `test` in a network namespace of its own, which stands for the node's.
fn on_a_node<T: Future<Output = ()>>(test: impl FnOnce(tempfile::TempDir) -> T + Send) {
    let directory = tempfile::tempdir().unwrap();
    let ended = std::thread::scope(|scope| {
        let node = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            // Its threads are of the namespace, as this one makes them.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(test(directory));
        };
        scope.spawn(node).join()
    });
    ended.unwrap();
}

fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn network(directory: &Path, bridge: Bridge, attachments: &[&[u8]]) -> Network {
    let plugins = Plugins::new(vec![directory.into()], std::time::Duration::from_secs(60));
    let cni = NodeNetwork::open(directory.join("net.d"), plugins);
    let settings = Settings { bridge, ..Settings::default() };
    Network::new(cni, &settings, attachments.iter().copied())
}

fn pod(directory: &Path, name: &str, ports: &[i32]) -> row::Pod {
    let mapping = |port: &i32| protocol::cri::PortMapping {
        host_port: *port,
        container_port: 80,
        ..Default::default()
    };
    let config = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name: name.into(), ..PodSandboxMetadata::default() }),
        port_mappings: ports.iter().map(mapping).collect(),
        ..PodSandboxConfig::default()
    };
    let netns = directory.join(name).display().to_string();
    row::Pod { id: name.into(), netns, config: Some(config), ..row::Pod::default() }
}

fn of_kubelet(mut pod: row::Pod) -> row::Pod {
    let config = pod.config.get_or_insert_default();
    config.labels.insert(OF_KUBELET.into(), "uid".into());
    pod
}

fn traces() -> String {
    run("ip -o link; nft list ruleset")
}

#[test]
fn pod_of_a_kubelet_waits_for_cni_unless_it_is_told_otherwise() {
    on_a_node(async |directory| {
        let directory = directory.path();
        let auto = network(directory, Bridge::Auto, &[]);
        let readiness = auto.readiness().await;
        assert!(!readiness.is_ready && readiness.message.contains("kubelet"), "{readiness:?}");
        let one = of_kubelet(pod(directory, "a", &[]));
        let fault = auto.plan(&one).await.unwrap_err();
        assert!(matches!(&fault, Fault::Unavailable(text) if text.contains("net.d")), "{fault}");
        assert!(!traces().contains("cuddy"), "nothing is made for it");
        let never = network(directory, Bridge::Never, &[]);
        assert!(!never.readiness().await.is_ready);
        never.plan(&pod(directory, "b", &[])).await.unwrap_err();
        let always = network(directory, Bridge::Always, &[]);
        assert!(always.readiness().await.is_ready);
        always.plan(&one).await.unwrap();
    });
}

#[test]
fn pod_keeps_the_network_that_it_was_made_with() {
    on_a_node(async |directory| {
        let directory = directory.path();
        let network = network(directory, Bridge::Auto, &[]);
        let old = pod(directory, "old", &[8080]);
        network.make_namespace(&old.netns).await.unwrap();
        let planned = network.plan(&old).await.unwrap();
        let attached = network.attach(&planned).await.unwrap();
        assert_eq!(attached.ips[0].to_string(), "10.88.0.2");
        assert!(traces().contains("dport 8080"));

        let answer = r#"{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.9/24"}]}"#;
        let plugin = directory.join("a");
        std::fs::write(&plugin, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(directory.join("net.d")).unwrap();
        let conf = r#"{"cniVersion":"1.0.0","name":"n","type":"a"}"#;
        std::fs::write(directory.join("new"), conf).unwrap();
        std::fs::rename(directory.join("new"), directory.join("net.d/10-n.conf")).unwrap();
        while network.cni.conf().is_err() {
            network.cni.changed().await;
        }
        let new = pod(directory, "new", &[]);
        let planned = network.plan(&new).await.unwrap();
        assert_eq!(network.attach(&planned).await.unwrap().ips[0].to_string(), "192.0.2.9");

        network.detach(&attached.attachment).await.unwrap();
        network.detach(&attached.attachment).await.unwrap();
        assert!(!traces().contains("cuddyv") && !traces().contains("8080"));
        network.remove_namespace(&old.netns).await.unwrap();
    });
}

#[test]
fn nothing_is_left_of_a_pod_wherever_its_daemon_was_killed() {
    on_a_node(async |directory| {
        let directory = directory.path();
        let first = network(directory, Bridge::Auto, &[]);
        let [one, two] = ["one", "two"].map(|name| pod(directory, name, &[]));
        let planned = first.plan(&one).await.unwrap();
        // Killed after the row, before any effect.
        let second = network(directory, Bridge::Auto, &[&planned]);
        second.collect(std::slice::from_ref(&planned)).await;
        second.make_namespace(&one.netns).await.unwrap();
        second.make_namespace(&two.netns).await.unwrap();
        let other = second.plan(&two).await.unwrap();
        assert_ne!(read(&other).unwrap(), read(&planned).unwrap());
        let attached = second.attach(&other).await.unwrap();
        assert_eq!(attached.ips[0].to_string(), "10.88.0.3", "the first one's lease is known");
        // Killed after the effect: the row is as it was planned, and undone by it.
        let third = network(directory, Bridge::Auto, &[&planned, &other]);
        third.attach(&planned).await.unwrap();
        third.detach(&other).await.unwrap();
        assert_eq!(traces().matches("cuddyv").count(), 1, "the other pod goes on");
        // The rows were lost with the state directory.
        let fourth = network(directory, Bridge::Never, &[]);
        fourth.collect(&[]).await;
        assert!(!traces().contains("cuddy"), "{}", traces());
        for pod in [one, two] {
            fourth.remove_namespace(&pod.netns).await.unwrap();
        }
    });
}

#[test]
fn port_that_is_taken_is_refused_and_free_again_after_its_pod() {
    on_a_node(async |directory| {
        let directory = directory.path();
        let network = network(directory, Bridge::Auto, &[]);
        let planned = network.plan(&pod(directory, "a", &[80])).await.unwrap();
        let other = pod(directory, "b", &[80]);
        let fault = network.plan(&other).await.unwrap_err();
        let text = "port 80/tcp of this node is taken by pod a";
        assert!(
            matches!(&fault, Fault::FailedPrecondition(said) if said.contains(text)),
            "{fault}"
        );
        network.detach(&planned).await.unwrap();
        network.plan(&other).await.unwrap();
    });
}
