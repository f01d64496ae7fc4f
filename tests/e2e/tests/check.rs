//! `cuddy check` on a host with the product installed and real KVM (the lab).

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::process::{Command, Output};

use serde_json::Value;

/// Runs a command and returns its output; `cuddy` is in the search path.
fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// `cuddy check --json` where, after the given shell command in a private mount namespace, the
/// host looks different. The host itself is not changed.
fn check_after(command: &str) -> Output {
    let script = format!("set -e; {command}; exec cuddy check --json");
    run("unshare", &["--mount", "sh", "-c", &script])
}

fn topic<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["topic"] == name).unwrap_or(&Value::Null)
}

#[test]
fn the_lab_is_usable_with_kvm_directly() {
    let output = run("cuddy", &["check", "--json"]);
    let report = json(&output);
    assert_eq!(report["usable"], true, "{report:#}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(report["case"], "direct");
    assert_eq!(topic(&report, "kvm-probe")["status"], "ok", "{report:#}");
    let slowdown = report["probe"]["slowdown"].as_f64().unwrap();
    assert!(slowdown < 20.0, "the guest is {slowdown} times slower");
}

#[test]
fn the_page_says_the_same_without_colours() {
    let output = run("cuddy", &["check"]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{page}");
    assert!(page.contains("This machine can run pods directly with KVM"), "{page}");
    assert!(!page.contains('\x1b'), "{page}");
}

#[test]
fn something_else_in_the_place_of_kvm_is_not_taken_for_it() {
    let output = check_after("mount --bind /dev/null /dev/kvm");
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["case"], "lab");
    assert_eq!(topic(&report, "kvm")["found"], "/dev/kvm opens but is not KVM");
    assert!(topic(&report, "kvm-probe").is_null(), "no probe without KVM: {report:#}");
    assert!(report["summary"].as_str().unwrap().contains("use the lab"));
}

#[test]
fn a_missing_device_names_the_module_to_load() {
    let output = check_after("mount -t tmpfs none /dev");
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1));
    let kvm = topic(&report, "kvm");
    assert!(kvm["found"].as_str().unwrap().starts_with("/dev/kvm is missing"), "{kvm}");
    assert!(kvm["action"].as_str().unwrap().contains("modprobe kvm_"), "{kvm}");
    assert_eq!(topic(&report, "tun")["status"], "warning");
}

#[test]
fn a_kernel_that_is_no_elf_file_and_an_unknown_key_are_named() {
    let file = "/tmp/cuddy-check.toml";
    let check = |text: &str| {
        std::fs::write(file, text).unwrap();
        let output = Command::new("cuddy")
            .args(["check", "--json"])
            .env("CUDDY_CONFIG", file)
            .output()
            .unwrap();
        std::fs::remove_file(file).unwrap();
        json(&output)
    };
    let report = check("kernel = '/etc/passwd'");
    assert_eq!(report["usable"], false);
    let found = topic(&report, "kernel")["found"].as_str().unwrap().to_owned();
    assert!(found.starts_with("/etc/passwd is not an ELF file"), "{found}");
    let report = check("kernal = '/vmlinux'");
    let found = topic(&report, "config")["found"].as_str().unwrap().to_owned();
    assert!(found.contains("kernal") && found.contains("did you mean \"kernel\""), "{found}");
}

/// As deploy/README.md has it.
#[test]
fn runcs_type_with_the_installed_shims_path_is_accepted() {
    let file = "/tmp/cuddy-check-containerd.toml";
    let check = |path: &str| {
        // The lab's containerd is 1.7, which wants an entry for ordinary pods in the same file.
        let text = format!(
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes]\n\
             runc.runtime_type = 'io.containerd.runc.v2'\n\
             cuddy.runtime_type = 'io.containerd.runc.v2'\ncuddy.runtime_path = '{path}'\n\
             cuddy.privileged_without_host_devices = true\n"
        );
        std::fs::write(file, text).unwrap();
        let output = run("cuddy", &["check", "--json", "--containerd-config", file]);
        std::fs::remove_file(file).unwrap();
        json(&output)
    };
    let report = check("/opt/cuddy/bin/containerd-shim-cuddy-v2");
    assert_eq!(topic(&report, "containerd-runtime")["status"], "ok", "{report:#}");
    assert_eq!(topic(&report, "containerd-config")["status"], "ok", "{report:#}");
    let report = check("/usr/bin/containerd-shim-runc-v2");
    assert_eq!(topic(&report, "containerd-runtime")["status"], "failed", "{report:#}");
}

#[test]
fn wrong_usage_is_told_from_an_unusable_host() {
    assert_eq!(run("cuddy", &["check", "--no-such-option"]).status.code(), Some(2));
    assert_eq!(run("cuddy", &[]).status.code(), Some(2));
}
