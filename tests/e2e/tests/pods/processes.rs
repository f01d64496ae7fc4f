//! Who sees whose processes: private, `shareProcessNamespace`, ephemeral containers, `hostPID`.

use harness::cri::api::NamespaceMode;
use harness::cri::node::{any_handler, each_handler};
use harness::cri::{ContainerSpec, PodSpec};
use harness::eventually;

#[test]
fn a_pod_can_share_its_processes() {
    each_handler(|node| {
        let cri = &node.cri;
        let pod = node.run(PodSpec::new("shared").shared_processes());
        let one = ContainerSpec::idle("one").shared_processes();
        let one = cri.start_new(&pod, one);
        let other = ContainerSpec::new("other", &["sleep", "2222"]).shared_processes();
        let other = cri.start_new(&pod, other);
        assert!(cri.sh(&one, "ps").contains("sleep 2222"));
        assert_ne!(cri.sh(&other, "tr '\\0' ' ' </proc/1/cmdline"), "sleep 2222 ");
        // Orphans become children of process 1, which waits for them.
        cri.sh(&one, "sh -c 'sleep 0.3 & sleep 0.1 & exit' >/dev/null 2>&1; sleep 1");
        let zombies = cri.sh(&one, "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null; true");
        assert_eq!(zombies, "");
        // A signal crosses containers; process 1 and the pod stay.
        let script = "for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' <$p/cmdline)\" != 'sleep 2222 ' ] || \
                      kill ${p#/proc/}; done";
        cri.sh(&one, script);
        assert_eq!(cri.exited(&other).exit_code, 143);
        let last = ContainerSpec::shell("last", "exit 4").shared_processes();
        let last = cri.start_new(&pod, last);
        assert_eq!(cri.exited(&last).exit_code, 4);
        // A container takes its processes with it.
        let ends = ContainerSpec::shell("ends", "sleep 4321 & exec sleep 1234").shared_processes();
        let ends = cri.start_new(&pod, ends);
        eventually("it has two", || cri.sh(&one, "ps").contains("sleep 4321"));
        cri.stop(&ends, 0);
        eventually("both are gone", || !cri.sh(&one, "ps").contains("sleep 4321"));
        assert!(cri.ready(&pod));
        cri.remove_pod(&pod);
    });
}

#[test]
fn an_ephemeral_container_joins_its_targets_processes() {
    any_handler(|node| {
        let (pod, target) = node.idle("target");
        let bystander = ContainerSpec::new("bystander", &["sleep", "2222"]);
        node.cri.start_new(&pod, bystander);
        let guest = ContainerSpec::new("debugger", &["sleep", "3333"]).target(&target);
        let guest = node.cri.start_new(&pod, guest);
        let list = node.cri.sh(&guest, "ps");
        assert!(list.contains("trap 'exit 0' TERM"), "{list}");
        assert!(!list.contains("sleep 2222"), "{list}");
        assert!(node.cri.sh(&target, "ps").contains("sleep 3333"));
        node.cri.remove_pod(&pod);
    });
}

#[test]
fn host_processes_are_the_machines() {
    any_handler(|node| {
        let mut spec = PodSpec::new("host-pid");
        spec.namespaces().set_pid(NamespaceMode::Node);
        let pod = node.run(spec);
        let container = |name: &str, seconds: &str| {
            let mut spec = ContainerSpec::new(name, &["sleep", seconds]);
            spec.namespaces().set_pid(NamespaceMode::Node);
            spec
        };
        let one = node.cri.start_new(&pod, container("one", "1111"));
        node.cri.start_new(&pod, container("other", "2222"));
        let list = node.cri.sh(&one, "ps");
        assert!(list.contains("sleep 1111") && list.contains("sleep 2222"), "{list}");
        assert!(!node.cri.sh(&one, "cat /proc/1/cmdline").contains("sleep"), "{list}");
        node.cri.remove_pod(&pod);
    });
}
