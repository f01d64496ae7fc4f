//! The life of pods and their containers: what shares what, what outlives what, and how each ends.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use harness::containerd::versions;
use harness::cri::{ContainerSpec, Controller, Cri, Daemon, Pod, PodSpec};
use harness::{eventually, host};

/// Runs a scenario under every version of containerd and each of its controllers.
fn everywhere(scenario: impl Fn(&Daemon, &Cri, Controller)) {
    for programs in versions() {
        let daemon = Daemon::new(&programs);
        for controller in daemon.controllers() {
            println!("containerd {} {controller:?}", daemon.version());
            scenario(&daemon, &daemon.cri(), *controller);
            daemon.settled();
        }
    }
}

fn run(cri: &Cri, controller: Controller, name: &str) -> Pod {
    cri.run_pod(PodSpec::new(name).handler(controller.handler()))
}

#[test]
fn containers_come_and_go_in_one_machine_that_lasts_as_long_as_the_pod() {
    everywhere(|_, cri, controller| {
        let pod = cri.run_pod(PodSpec::new("several").handler(controller.handler()).hostname("h1"));
        assert_eq!(host::vmms().len(), 1);
        let machine = host::vmms();
        let setup = cri.start_new(&pod, ContainerSpec::shell("setup", "exit 0"));
        assert_eq!(cri.exited(&setup).exit_code, 0);
        cri.remove(&setup);
        // No container is left, and the machine is.
        assert_eq!(host::vmms(), machine);
        let first = cri.start_new(&pod, ContainerSpec::idle("first"));
        let second = cri.start_new(&pod, ContainerSpec::idle("second"));
        for container in [&first, &second] {
            assert_eq!(cri.sh(container, "hostname").trim(), "h1");
        }
        let namespaces = "for kind in ipc uts net; do readlink /proc/self/ns/$kind; done";
        assert_eq!(cri.sh(&first, namespaces), cri.sh(&second, namespaces));
        assert_ne!(
            cri.sh(&first, "readlink /proc/1/ns/pid"),
            cri.sh(&second, "readlink /proc/1/ns/pid")
        );
        cri.stop(&first, 30);
        assert_eq!(cri.exited(&first).exit_code, 0);
        cri.remove(&first);
        let again = cri.start_new(&pod, ContainerSpec::idle("first").attempt(1));
        assert_eq!(cri.sh(&again, "echo there"), "there\n");
        assert_eq!(cri.sh(&second, "echo there"), "there\n");
        assert_eq!(host::vmms(), machine);
        assert!(cri.ready(&pod));
        cri.stop_pod(&pod);
        assert!(!cri.ready(&pod));
        // A stopped pod costs no memory, though its record stays.
        eventually("the machine has ended", || host::vmms().is_empty());
        assert_eq!(cri.exited(&second).exit_code, 137);
        cri.remove_pod(&pod);
    });
}

#[test]
fn process_ids_are_shared_as_asked_for() {
    everywhere(|_, cri, controller| {
        let handler = controller.handler();
        let pod = cri.run_pod(PodSpec::new("shared").handler(handler).shared_processes());
        let spec = ContainerSpec::shell("main", "sleep 4321 & exec sleep 1234").shared_processes();
        let main = cri.start_new(&pod, spec);
        let other = cri.start_new(&pod, ContainerSpec::idle("other").shared_processes());
        let seen = cri.sh(&other, "ps");
        assert!(seen.contains("sleep 1234") && seen.contains("sleep 4321"), "{seen}");
        // Whoever has lost its parent is taken care of and does not stay as a zombie.
        cri.sh(&other, "sh -c '(sleep 0.1 &)'");
        eventually("no zombie is left", || !cri.sh(&other, "ps -o stat,args").contains("\nZ"));
        cri.sh(&other, "kill $(pidof -s sleep 1234 | head -1); true");
        cri.stop(&main, 0);
        eventually("a container takes its processes with it", || {
            !cri.sh(&other, "ps").contains("sleep 4321")
        });
        cri.remove_pod(&pod);

        let pod = run(cri, controller, "target");
        let main = cri.start_new(&pod, ContainerSpec::shell("main", "exec sleep 1234"));
        let aside = cri.start_new(&pod, ContainerSpec::shell("aside", "exec sleep 5678"));
        let debug = cri.start_new(&pod, ContainerSpec::idle("debugger").target(&main));
        let seen = cri.sh(&debug, "ps");
        assert!(seen.contains("sleep 1234") && !seen.contains("sleep 5678"), "{seen}");
        assert!(!cri.sh(&aside, "ps").contains("sleep 1234"));
        cri.remove_pod(&pod);
    });
}
