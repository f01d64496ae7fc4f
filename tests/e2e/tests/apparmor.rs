//! AppArmor for containers that run in the node's kernel. The lab of this program is its own: it
//! begins as a node whose kernel has AppArmor and which has nothing that loads a profile.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::io::Write;
use std::process::{Command, Stdio};

use harness::cri::api::SecurityProfile;
use harness::cri::api::security_profile::ProfileType;
use harness::cri::{Container, ContainerSpec, Cri, Cuddyd, PodSpec};

const RUNC: &str = "[handlers.runc]\nruntime_type = 'io.containerd.runc.v2'\n";
const DEFAULT: &str = "cri-containerd.apparmor.d (enforce)";

fn asks(name: &str, kind: ProfileType, profile: &str) -> ContainerSpec {
    let mut spec = ContainerSpec::idle(name);
    let localhost_ref = profile.to_owned();
    spec.security().apparmor = Some(SecurityProfile { profile_type: kind.into(), localhost_ref });
    spec
}

/// What confines the container.
fn confined(cri: &Cri, container: &Container) -> String {
    cri.sh(container, "cat /proc/1/attr/current")
}

/// What Debian's package `apparmor` has.
fn install() {
    for (part, to) in [("etc", "/"), ("usr", "/"), ("sbin/apparmor_parser", "/usr/sbin/")] {
        let part = format!("/opt/cuddy/apparmor/{part}");
        let status = Command::new("cp").args(["-r", &part, to]).status().unwrap();
        assert!(status.success(), "cp {part}: {status}");
    }
}

/// What the daemon would say of this node.
fn check() -> String {
    std::fs::write("/tmp/c.toml", RUNC).unwrap();
    let output = Command::new("cuddyd").args(["--check", "--config", "/tmp/c.toml"]).output();
    String::from_utf8_lossy(&output.unwrap().stderr).into_owned()
}

fn default(name: &str) -> ContainerSpec {
    asks(name, ProfileType::RuntimeDefault, "")
}

fn load(text: &str) {
    let mut command = Command::new("apparmor_parser");
    let mut child = command.args(["-r", "-K"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn containers_have_the_profile_that_they_ask_for() {
    let daemon = Cuddyd::with(RUNC);
    daemon.pull("busybox");
    let cri = daemon.cri();
    let pod = cri.run_pod(PodSpec::new("confined").handler("runc"));

    // Nothing can load the default: who asks for it hears why, others do not need it.
    let error = cri.try_create(&pod, default("early")).unwrap_err().to_string();
    assert!(error.contains("apparmor_parser is missing"), "{error}");
    let without = cri.start_new(&pod, ContainerSpec::idle("without"));
    assert_eq!(confined(&cri, &without), "unconfined");
    assert!(check().contains("apparmor_parser is missing"), "{}", check());

    install();
    assert!(!check().contains("apparmor_parser"), "{}", check());
    let trap = "trap 'exit 3' TERM; while :; do sleep 1000 & wait $!; done";
    let mut silent = ContainerSpec::shell("silent", trap);
    silent.security().capabilities.get_or_insert_default().add_capabilities =
        vec!["SYS_ADMIN".to_owned()];
    let silent = cri.start_new(&pod, silent);
    assert_eq!(confined(&cri, &silent), DEFAULT);
    let script = "mount -t tmpfs none /dev/shm 2>/dev/null || echo no mount; touch /x && echo file; \
                  sleep 1000 & kill $! && echo signal; \
                  cat /proc/sysrq-trigger 2>/dev/null || echo no sysrq";
    assert_eq!(cri.sh(&silent, script), "no mount\nfile\nsignal\nno sysrq");
    // The node's signals come through.
    cri.stop(&silent, 20);
    assert_eq!(cri.status(&silent).exit_code, 3);

    // Profiles that were loaded since the daemon began count.
    load("profile own { file, capability, network, signal, ptrace, }");
    for (spec, expected) in [
        (default("default"), DEFAULT),
        (asks("unconfined", ProfileType::Unconfined, ""), "unconfined"),
        (asks("own", ProfileType::Localhost, "localhost/own"), "own (enforce)"),
    ] {
        let container = cri.start_new(&pod, spec);
        assert_eq!(confined(&cri, &container), expected);
    }
    let missing = asks("missing", ProfileType::Localhost, "nosuch");
    let error = cri.try_create(&pod, missing).unwrap_err().to_string();
    assert!(error.contains("apparmor profile not found nosuch"), "{error}");
    cri.remove_pod(&pod);

    privileged_goes_without(&cri);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

fn privileged_goes_without(cri: &Cri) {
    let mut all = PodSpec::new("privileged").handler("runc");
    all.config.linux.get_or_insert_default().security_context.get_or_insert_default().privileged =
        true;
    let pod = cri.run_pod(all);
    let mut privileged = default("privileged");
    privileged.security().privileged = true;
    let container = cri.start_new(&pod, privileged);
    assert_eq!(confined(cri, &container), "unconfined");
    cri.remove_pod(&pod);
}
