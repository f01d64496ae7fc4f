//! Which crate may depend on which.

use std::process::Command;

use serde_json::Value;

use crate::tree::{expect_none, root};

fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// (folder of the crate, names of its workspace dependencies outside tests)
fn workspace() -> Vec<(String, String, Vec<String>)> {
    let data = metadata(&["--no-deps"]);
    let root = root();
    let packages = data["packages"].as_array().unwrap();
    let describe = |package: &Value| {
        let manifest = package["manifest_path"].as_str().unwrap();
        let folder = manifest.strip_prefix(root.to_str().unwrap()).unwrap();
        let dependencies = package["dependencies"].as_array().unwrap();
        let names = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
        let names = names.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
        let name = package["name"].as_str().unwrap().to_owned();
        (folder.trim_start_matches('/').to_owned(), name, names.collect())
    };
    packages.iter().map(describe).collect()
}

#[test]
fn runtime_knows_machine_and_agent_only_by_their_contracts() {
    let mut findings = Vec::new();
    for (folder, name, dependencies) in workspace() {
        let forbidden: &[&str] = if folder.starts_with("runtime/") {
            &["vmm", "virtio", "agent", "harness", "lab"]
        } else if folder.starts_with("vmm/") || folder.starts_with("agent/") {
            &["sandbox", "shim", "cli", "harness", "lab"]
        } else {
            &[]
        };
        let broken =
            dependencies.iter().filter(|dependency| forbidden.contains(&dependency.as_str()));
        findings.extend(broken.map(|dependency| format!("{name} depends on {dependency}")));
    }
    expect_none(&findings, "dependencies in the wrong direction");
}

#[test]
fn vmm_stays_small() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "vmm", "-e", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("kvm-ioctls"), "not the tree of the VMM:\n{tree}");
    let unwanted = ["tokio ", "ttrpc ", "tonic ", "hyper ", "openssl", "regex "];
    let findings: Vec<_> = tree
        .lines()
        .filter(|line| unwanted.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    expect_none(&findings, "crates that have no place in the VMM");
}
