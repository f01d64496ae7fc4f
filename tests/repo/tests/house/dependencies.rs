//! Which crate may depend on which.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::tree::{expect_none, read, root, rust_files};

/// Dependencies that only generated code names, or the generator of another crate: crate and
/// dependency.
const GENERATED: [(&str, &str); 12] = [
    ("agent-api", "async-trait"),
    ("agent-api", "protobuf"),
    ("agent-api", "ttrpc"),
    ("cli", "tonic-prost"),
    ("cri", "tonic-prost"),
    ("harness", "prost"),
    ("harness", "tonic-prost"),
    ("protocol", "async-trait"),
    ("protocol", "prost"),
    ("protocol", "protobuf"),
    ("protocol", "ttrpc"),
    ("protocol", "ttrpc-codegen"),
];

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

/// (manifest of the crate, its name, names of its workspace dependencies outside tests)
pub(crate) fn workspace() -> Vec<(String, String, Vec<String>)> {
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
            &["api", "host", "machine", "sandbox", "shim", "cli", "harness", "lab"]
        } else {
            &[]
        };
        let broken =
            dependencies.iter().filter(|dependency| forbidden.contains(&dependency.as_str()));
        findings.extend(broken.map(|dependency| format!("{name} depends on {dependency}")));
    }
    expect_none(&findings, "dependencies in the wrong direction");
}

/// Crates of `runtime/`: each may depend on those before it.
const LAYERS: [&str; 19] = [
    "protocol",
    "streaming",
    "network",
    "erofs",
    "logs",
    "companion",
    "overlay",
    "image",
    "api",
    "shim-client",
    "host",
    "cni",
    "bridge",
    "machine",
    "template",
    "sandbox",
    "shim",
    "cri",
    "cli",
];

#[test]
fn crates_of_the_runtime_lie_on_each_other_in_one_order() {
    let place = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let mut findings = Vec::new();
    for (folder, name, dependencies) in workspace() {
        if !folder.starts_with("runtime/") {
            continue;
        }
        let Some(own) = place(&name) else {
            findings.push(format!("{name} has no place in the order"));
            continue;
        };
        let above = dependencies.iter().filter(|other| place(other).is_some_and(|at| at > own));
        findings.extend(above.map(|other| format!("{name} depends on {other}, which is above it")));
    }
    expect_none(&findings, "crates of the runtime out of order");
}

/// Crates of `runtime/` that speak the protocols of daemons.
const DOORS: [&str; 5] = ["protocol", "shim", "shim-client", "cri", "cli"];

#[test]
fn messages_of_daemons_stay_at_the_doors() {
    let mut findings = Vec::new();
    let outside = |(folder, name, _): &(String, String, Vec<String>)| {
        folder.starts_with("runtime/") && !DOORS.contains(&name.as_str())
    };
    for (_, name, dependencies) in workspace().into_iter().filter(outside) {
        let messages = ["containerd-shim-protos", "prost", "protobuf", "tonic"];
        let broken = dependencies.iter().filter(|other| messages.contains(&other.as_str()));
        findings.extend(broken.map(|other| format!("{name} depends on {other}")));
    }
    expect_none(&findings, "messages of daemons in the core");
}

/// Whether a source uses a crate: names it before `::`, or as a whole in `use`.
fn names(source: &str, dependency: &str) -> bool {
    let name = dependency.replace('-', "_");
    let before = |at: usize| source[..at].chars().next_back();
    let is_path = |(at, _): (usize, &str)| {
        before(at).is_none_or(|letter| !letter.is_alphanumeric() && letter != '_')
    };
    source.match_indices(&format!("{name}::")).any(is_path)
        || source.contains(&format!("use {name};"))
}

#[test]
fn every_dependency_is_used() {
    let data = metadata(&["--no-deps"]);
    let root = root();
    let sources: Vec<_> = rust_files().into_iter().map(|file| (read(&file), file)).collect();
    let mut findings = Vec::new();
    let mut used = std::collections::BTreeSet::new();
    for package in data["packages"].as_array().unwrap() {
        let manifest = package["manifest_path"].as_str().unwrap();
        let folder = Path::new(manifest).parent().unwrap().strip_prefix(&root).unwrap();
        let (crate_name, listed) = (&package["name"], package["dependencies"].as_array().unwrap());
        for dependency in listed {
            let name = dependency["name"].as_str().unwrap();
            used.insert(name.to_owned());
            let mut own = sources.iter().filter(|(_, file)| file.starts_with(folder));
            let by_generator = GENERATED.iter().any(|(of, on)| crate_name == of && name == *on);
            if !by_generator && !own.any(|(source, _)| names(source, name)) {
                findings.push(format!("{crate_name} does not use {name}"));
            }
        }
    }
    let manifest = read(Path::new("Cargo.toml"));
    let table = manifest.split("[workspace.dependencies]").nth(1).unwrap();
    let offered =
        table.split("\n[").next().unwrap().lines().filter_map(|line| line.split_once(" = "));
    let unused = offered.filter(|(name, _)| !used.contains(*name));
    findings.extend(unused.map(|(name, _)| format!("no crate depends on {name}")));
    expect_none(&findings, "dependencies without a use");
}

#[test]
fn vmm_stays_small() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "vmm", "-e", "normal", "--prefix", "none"])
        // The file server's library can't be had without the logger of its daemon, nor that
        // without `regex`. Nothing calls either, and the linker leaves both out.
        .args(["--prune", "env_logger"])
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
