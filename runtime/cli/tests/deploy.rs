//! The manifests in `deploy/kubernetes`: that they are what Kubernetes reads, and that they fit
//! the drop-ins, each other, and what the product reckons with.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use host::Config;
use host::config::RawConfig;
use sandbox::sizing;

use serde::Deserialize;
use serde_json::Value;

/// A RuntimeClass of `node.k8s.io/v1`, with all of its fields and no others.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuntimeClass {
    api_version: String,
    kind: String,
    metadata: Metadata,
    handler: String,
    overhead: Overhead,
    scheduling: Scheduling,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Overhead {
    pod_fixed: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Scheduling {
    node_selector: BTreeMap<String, String>,
    tolerations: Vec<BTreeMap<String, String>>,
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The documents of a YAML file. A key that is there twice is an error.
fn documents(path: &Path) -> Vec<Value> {
    let text = read(path);
    let parsed = serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize);
    parsed.map(|one| one.unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

fn classes() -> Vec<RuntimeClass> {
    let path = deploy().join("kubernetes/runtimeclass.yaml");
    documents(&path).into_iter().map(|one| serde_json::from_value(one).unwrap()).collect()
}

/// Names of the runtimes in a file of containerd's or CRI-O's.
fn handlers(file: &str, section: &[&str]) -> Vec<String> {
    let table: toml::Table = read(&deploy().join(file)).parse().unwrap();
    let table = section.iter().fold(&table, |table, key| table[*key].as_table().unwrap());
    table.keys().cloned().collect()
}

#[test]
fn every_handler_of_the_drop_ins_has_a_class() {
    let named: Vec<_> = classes().into_iter().map(|class| class.handler).collect();
    assert_eq!(named, ["cuddy", "cuddy-sandbox"]);
    let v3 = ["plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes"];
    let v2 = ["plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes"];
    assert_eq!(handlers("containerd/config-v3.toml", &v3), ["cuddy"]);
    assert_eq!(handlers("containerd/config-v3-sandboxer-shim.toml", &v3), ["cuddy-sandbox"]);
    assert_eq!(handlers("containerd/config-v2.toml", &v2), ["cuddy", "runc"]);
    assert_eq!(handlers("crio/50-cuddy.conf", &["crio", "runtime", "runtimes"]), ["cuddy"]);
}

#[test]
fn overhead_is_what_the_product_reckons_with() {
    let config =
        Config::new(RawConfig::default(), Path::new("/opt/cuddy"), Path::new("/")).unwrap();
    let memory = format!("{}Mi", config.memory_overhead_mib + sizing::OVERHEAD_MIB);
    assert_eq!(memory, "140Mi");
    let cpu = format!("{}m", sizing::OVERHEAD_MILLI_CPUS);
    for class in classes() {
        assert_eq!((&*class.api_version, &*class.kind), ("node.k8s.io/v1", "RuntimeClass"));
        assert_eq!(class.metadata.name, class.handler);
        let fixed = &class.overhead.pod_fixed;
        assert_eq!((&fixed["memory"], &fixed["cpu"], fixed.len()), (&memory, &cpu, 2));
    }
}

#[test]
fn classes_differ_by_name_and_handler_alone() {
    let [one, other] = &classes()[..] else { panic!("two classes") };
    assert_eq!((&one.overhead, &one.scheduling), (&other.overhead, &other.scheduling));
    assert_eq!(one.scheduling.node_selector["cuddy.dev/runtime"], "true");
    let readme = read(&deploy().join("README.md"));
    assert!(readme.contains("kubectl label node NODE cuddy.dev/runtime=true"));
    assert_eq!(one.scheduling.tolerations[0]["key"], "cuddy.dev/runtime");
}

/// The pod in an object: itself, or the template of a controller, whose selector must find it.
fn pod(object: &Value) -> Option<&Value> {
    match (object["apiVersion"].as_str()?, object["kind"].as_str()?) {
        ("v1", "Pod") => Some(object),
        ("apps/v1", "Deployment") => {
            let template = &object["spec"]["template"];
            let selector = &object["spec"]["selector"]["matchLabels"];
            assert!(selector.is_object() && *selector == template["metadata"]["labels"]);
            Some(template)
        }
        ("v1", "ConfigMap" | "Service") => None,
        other => panic!("an object of unknown kind: {other:?}"),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn examples_are_whole_and_run_in_machines() {
    let examples = std::fs::read_dir(deploy().join("kubernetes/examples")).unwrap();
    let examples: Vec<_> = examples.map(|entry| entry.unwrap().path()).collect();
    assert!(examples.len() >= 3);
    for path in examples {
        let objects = documents(&path);
        assert!(objects.iter().all(|object| object["metadata"]["name"].is_string()));
        let pods: Vec<_> = objects.iter().filter_map(pod).collect();
        assert_eq!(pods.len(), 1, "{}", path.display());
        let spec = &pods[0]["spec"];
        assert_eq!(spec["runtimeClassName"], "cuddy", "{}", path.display());
        let volumes: Vec<_> = list(spec, "volumes").iter().map(|volume| &volume["name"]).collect();
        let containers: Vec<_> = list(spec, "containers").iter().collect();
        assert!(!containers.is_empty());
        for container in containers.into_iter().chain(list(spec, "initContainers")) {
            assert!(container["name"].is_string() && container["image"].is_string());
            for mount in list(container, "volumeMounts") {
                assert!(volumes.contains(&&mount["name"]), "{}: {mount}", path.display());
                assert!(mount["mountPath"].as_str().unwrap().starts_with('/'));
            }
        }
    }
}

/// `systemd-analyze verify` of Debian 12 and later, where it is installed: what of the unit systemd
/// does not know. Its program need not be installed here.
#[test]
fn unit_is_what_systemd_reads() {
    let text = read(&deploy().join("systemd/cuddyd.service"));
    let section = |name: &str| text.lines().any(|line| line == format!("[{name}]"));
    assert!(section("Unit") && section("Service") && section("Install"));
    for line in [
        "Type=notify",
        "KillMode=process",
        "Delegate=yes",
        "OOMScoreAdjust=-999",
        "ExecStart=/opt/cuddy/bin/cuddyd",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}");
    }
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("cuddyd.service");
    std::fs::write(&unit, text.replace("/opt/cuddy/bin/cuddyd", "/bin/true")).unwrap();
    let mut analyze = std::process::Command::new("systemd-analyze");
    match analyze.args(["verify", "--man=no"]).arg(&unit).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        output => {
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
    }
}
