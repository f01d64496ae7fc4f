use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn network(directory: &Path, fresh: Duration) -> NodeNetwork {
    let plugin = directory.join("a");
    fs::write(&plugin, "#!/bin/sh\necho >>${0%/*}/calls\n").unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    let conf = r#"{"cniVersion": "1.1.0", "name": "n", "type": "a"}"#;
    fs::write(directory.join("10-n.conf"), conf).unwrap();
    let plugins = Plugins::new(vec![directory.to_owned()], Duration::from_secs(60));
    NodeNetwork { fresh, ..NodeNetwork::open(directory.to_owned(), plugins) }
}

fn calls(directory: &Path) -> usize {
    fs::read(directory.join("calls")).unwrap_or_default().len()
}

#[tokio::test]
async fn answer_is_believed_for_a_while_also_by_those_who_ask_at_once() {
    assert_eq!(FRESH, Duration::from_secs(1));
    let directory = tempfile::tempdir().unwrap();
    let network = network(directory.path(), Duration::from_secs(3600));
    let both = tokio::join!(network.readiness(), network.readiness());
    assert!(both.0.is_ready && both.1.is_ready);
    assert!(network.readiness().await.is_ready);
    assert_eq!(calls(directory.path()), 1);
    let other = r#"{"cniVersion": "1.1.0", "name": "other", "type": "a"}"#;
    fs::write(directory.path().join("10-n.conf"), other).unwrap();
    network.load();
    assert!(network.readiness().await.is_ready);
    assert_eq!(calls(directory.path()), 2, "another configuration, another answer");
}

#[tokio::test]
async fn answer_that_is_not_fresh_is_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let network = network(directory.path(), Duration::ZERO);
    assert!(network.readiness().await.is_ready);
    fs::write(directory.path().join("a"), "#!/bin/sh\nexit 1\n").unwrap();
    assert!(!network.readiness().await.is_ready);
}

#[tokio::test]
async fn file_that_can_not_be_read_is_not_the_same_as_none() {
    let directory = tempfile::tempdir().unwrap();
    let plugins = Plugins::new(Vec::new(), Duration::from_secs(60));
    let network = NodeNetwork::open(directory.path().join("net.d"), plugins);
    assert!(network.is_empty());
    fs::create_dir(directory.path().join("net.d")).unwrap();
    let file = directory.path().join("net.d/10-n.conf");
    fs::write(&file, "{").unwrap();
    network.load();
    assert!(!network.is_empty() && network.conf().is_err());
    fs::remove_file(&file).unwrap();
    network.load();
    assert!(network.is_empty());
}
