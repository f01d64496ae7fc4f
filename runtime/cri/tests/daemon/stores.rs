//! Two daemons on one store or one socket, and stores of a later release.

use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};

use crate::node::Node;

/// Writes settings with some lines of the node's replaced.
fn settings(node: &Node, name: &str, change: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(node.path("cuddyd.toml")).unwrap();
    for (key, value) in change {
        let old = text.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        text = text.replace(old, &format!("{key} = '{}'", node.path(value).display()));
    }
    std::fs::write(node.path(name), text).unwrap();
}

#[test]
fn second_daemon_on_a_store_is_refused_and_the_first_goes_on() {
    let node = Node::new();
    node.pull();
    let (pod, container) = node.running("web");
    let before = (node.status(&container), node.remains());
    let moved: [&[(&str, &str)]; 3] = [
        &[("socket", "other.sock")],
        &[("socket", "other.sock"), ("state", "other-state")],
        &[("state", "other-state"), ("root", "other-root")],
    ];
    for (moved, word) in moved.iter().zip(["cri.redb is in use", "root/images", "somebody serves"])
    {
        settings(&node, "second.toml", moved);
        let (status, said) = node.another("second.toml");
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(word), "{word}: {said}");
        assert_eq!((node.status(&container), node.remains()), before);
    }
    node.remove(&pod);
    node.is_clean();
}

const FACTS: TableDefinition<'_, &str, u32> = TableDefinition::new("facts");

/// A version that is not known yet.
const LATER: u32 = 99;

fn version(path: &Path) -> u32 {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_read().unwrap();
    let facts = transaction.open_table(FACTS).unwrap();
    facts.get("version").unwrap().unwrap().value()
}

/// As a later release would leave it.
fn date_forward(path: &Path) {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(FACTS).unwrap().insert("version", LATER).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn records_of_a_later_release_end_the_daemon_with_a_sentence_and_stay() {
    let mut node = Node::new();
    node.pull();
    let (pod, container) = node.running("web");
    let before = (node.status(&container), node.remains());
    node.kill();
    let path = node.path("state/cri.redb");
    let kept = std::fs::read(&path).unwrap();
    date_forward(&path);
    let (status, said) = node.another("cuddyd.toml");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("written by a later release") && said.contains("cri.redb"), "{said}");
    assert_eq!(version(&path), LATER, "it stays as it is");
    // That release goes on with it.
    std::fs::write(&path, kept).unwrap();
    node.start();
    assert_eq!((node.status(&container), node.remains()), before);
    node.remove(&pod);
    node.is_clean();
}
