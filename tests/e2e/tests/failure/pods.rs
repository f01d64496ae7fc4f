//! What ends a whole pod, seen by CRI. All of the pod has ended with 137 soon, for a reason that is
//! in the log. Nothing of it stays.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::containerd::{newest, versions};
use harness::cri::api::NamespaceMode;
use harness::cri::{Container, ContainerSpec, Controller, Daemon, Pod, PodSpec};
use harness::{eventually, host};

/// What the agent is made to execute when it goes on: an instruction that is none.
const CRASH: &str = r"\017\013";

/// A jump to itself.
const HANG: &str = r"\353\376";

/// Seconds in which an end is told that needs no question without an answer: those take longer, and
/// a busy lab takes some as well.
const SOON: u64 = 20;

/// A running pod.
type Running = (Pod, Vec<Container>);

/// A pod of two containers.
fn pod(daemon: &Daemon, controller: Controller) -> Running {
    let cri = daemon.cri();
    let pod = cri.run_pod(PodSpec::new("fails").handler(controller.handler()));
    let containers = ["first", "second"]
        .map(|name| cri.start_new(&pod, ContainerSpec::new(name, &["sleep", "1000"])));
    (pod, containers.into())
}

/// A pod of two privileged containers that see the guest's processes; the second one runs a
/// script a second after its start has been told.
fn armed_pod(daemon: &Daemon, controller: Controller, script: &str) -> Running {
    let cri = daemon.cri();
    let mut spec = PodSpec::new("armed").handler(controller.handler());
    spec.config.linux.as_mut().unwrap().security_context.as_mut().unwrap().privileged = true;
    spec.namespaces().set_pid(NamespaceMode::Node);
    let pod = cri.run_pod(spec);
    let start = |name, script: &str| {
        let mut spec = ContainerSpec::shell(name, script);
        spec.security().privileged = true;
        spec.namespaces().set_pid(NamespaceMode::Node);
        cri.start_new(&pod, spec)
    };
    let bystander = start("bystander", "exec sleep 1000");
    let armed = start("armed", &format!("sleep 1; {script}; exec sleep 1000"));
    (pod, vec![bystander, armed])
}

/// A script that lets every thread of the guest's first process, the agent, go on with `code`
/// when it is woken up. No signal can do that: those that it does not handle are not for it.
fn poke(code: &str) -> String {
    format!(
        "for task in /proc/1/task/*; do \
           read -r line <$task/syscall; \
           printf '{code}' | dd of=/proc/1/mem bs=1 seek=$((${{line##* }})) conv=notrunc; \
         done"
    )
}

/// The pod has failed: everything in it ended as killed, within `limit` seconds. The reason is in
/// the log.
#[track_caller]
fn failed(daemon: &Daemon, running: &Running, limit: u64, reason: &str) {
    let codes = told(daemon, running, limit, reason);
    assert!(codes.iter().all(|code| *code == 137), "{codes:?}");
}

/// The pod has ended within `limit` seconds, with these exit codes. The reason is in the log.
#[track_caller]
fn told(daemon: &Daemon, (pod, containers): &Running, limit: u64, reason: &str) -> Vec<i32> {
    let since = Instant::now();
    let cri = daemon.cri();
    let codes = containers.iter().map(|container| cri.exited(container).exit_code).collect();
    eventually("the pod is not ready", || !cri.ready(pod));
    let took = since.elapsed();
    println!("  told after {took:?}");
    assert!(took < Duration::from_secs(limit), "{took:?}");
    eventually(&format!("the log says {reason:?}"), || daemon.log().contains(reason));
    codes
}

/// After it is removed nothing of it is left.
#[track_caller]
fn cleaned(daemon: &Daemon, (pod, _): &Running) {
    daemon.cri().remove_pod(pod);
    daemon.settled();
}

/// How long the one machine has taken to boot, or its template, rounded up.
fn boot_seconds() -> u64 {
    let templates = "sed -n 's/.*\"booted_in_us\": //p' /run/cuddy/.templates/*/template.json";
    let script = format!("cat /run/cuddy/*/*/ready-us; {templates}");
    let found = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    let times = text.lines().map(|line| line.trim().parse::<u64>().unwrap());
    times.max().unwrap().div_ceil(1_000_000)
}

/// Six seconds of silence after two without a question, and one until the machine has ended. An
/// emulated host is given more time, by what the boot took.
fn silence() -> u64 {
    10 + 4 * boot_seconds()
}

fn on(daemon: &Daemon, controller: Controller, test: &impl Fn(&Daemon, Controller)) {
    println!("containerd {}, {controller:?}", daemon.version());
    test(daemon, controller);
}

/// Runs a test with each controller of the newest daemon, for what containerd has to notice.
fn each_controller(test: impl Fn(&Daemon, Controller)) {
    let daemon = Daemon::new(&newest());
    daemon.controllers().iter().for_each(|controller| on(&daemon, *controller, &test));
}

/// The same with one of them, for what the shim has to notice.
fn one_controller(test: impl Fn(&Daemon, Controller)) {
    let daemon = Daemon::new(&newest());
    on(&daemon, daemon.controllers()[0], &test);
}

#[test]
fn killed_vmm_ends_its_pod() {
    each_controller(|daemon, controller| {
        let running = pod(daemon, controller);
        host::kill(host::vmms()[0]);
        failed(daemon, &running, SOON, "the VMM process was killed");
        cleaned(daemon, &running);
    });
}

#[test]
fn killed_shim_ends_its_pod_under_every_version() {
    let test = |daemon: &Daemon, controller| {
        let running = pod(daemon, controller);
        host::kill(host::shims()[0]);
        let codes = told(daemon, &running, SOON, "shim disconnected");
        // containerd's CRI waits for the shim's answer, with any runtime, and takes the end of the
        // connection for one without a code, which is 255; what `delete` says comes too late.
        assert!(codes.iter().all(|code| [137, 255].contains(code)), "{codes:?}");
        cleaned(daemon, &running);
    };
    for programs in versions() {
        let daemon = Daemon::new(Path::new(&programs));
        daemon.controllers().iter().for_each(|controller| on(&daemon, *controller, &test));
    }
}

#[test]
fn machine_that_stands_still_ends_its_pod() {
    one_controller(|daemon, controller| {
        let running = pod(daemon, controller);
        let limit = silence();
        let vmm = host::vmms()[0].to_string();
        assert!(Command::new("kill").args(["-STOP", &vmm]).status().unwrap().success());
        failed(daemon, &running, limit, "the guest's agent has not answered");
        cleaned(daemon, &running);
    });
}

#[test]
fn agent_that_hangs_in_a_healthy_machine_ends_its_pod() {
    one_controller(|daemon, controller| {
        let running = armed_pod(daemon, controller, &poke(HANG));
        let limit = silence();
        failed(daemon, &running, limit, "the guest's agent has not answered");
        cleaned(daemon, &running);
    });
}

#[test]
fn killed_agent_ends_its_pod() {
    one_controller(|daemon, controller| {
        let running = armed_pod(daemon, controller, &poke(CRASH));
        failed(daemon, &running, SOON, "Attempted to kill init");
        cleaned(daemon, &running);
    });
}

#[test]
fn panic_ends_its_own_pod_and_no_other() {
    one_controller(|daemon, controller| {
        let other = pod(daemon, controller);
        let running = armed_pod(daemon, controller, "echo c >/proc/sysrq-trigger");
        failed(daemon, &running, SOON, "sysrq triggered crash");
        assert!(daemon.cri().ready(&other.0), "another pod fails with it");
        daemon.cri().remove_pod(&other.0);
        cleaned(daemon, &running);
    });
}
