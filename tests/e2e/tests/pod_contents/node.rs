//! What a workload sees of the machine that would be the node's without it: the clock, limits that
//! Linux derives from the size of its memory, network devices.

use std::time::{Duration, Instant};

use harness::cri::node::{Node, any_handler};
use harness::cri::{Container, ContainerSpec, PodSpec};
use harness::eventually;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::probe;

const MIB: i64 = 1 << 20;

/// Nanoseconds by which the guest's clock may differ from the host's.
const TOLERANCE: i64 = 1_000_000;

/// Moves the host's clock.
fn jump(milliseconds: i64) {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    let nanoseconds = tv_nsec + (milliseconds % 1000) * 1_000_000;
    let carry = nanoseconds.div_euclid(1_000_000_000);
    let to = Timespec {
        tv_sec: tv_sec + milliseconds / 1000 + carry,
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
    };
    clock_settime(ClockId::Realtime, to).unwrap();
}

/// By how many nanoseconds the host's clock is ahead of the guest's, and how wrong that may be.
fn offset(node: &Node, container: &Container) -> (i64, i64) {
    let said = node.cri.sh(container, &probe::command("clock"));
    let line = said.lines().find_map(|line| line.split_once("the host is ahead by "));
    let (offset, uncertainty) = line.unwrap().1.split_once(" +- ").unwrap();
    (offset.parse().unwrap(), uncertainty.parse().unwrap())
}

#[test]
fn clock_follows_the_hosts() {
    any_handler(|node| {
        let mut spec = PodSpec::new("clock");
        spec.config.linux.as_mut().unwrap().security_context.as_mut().unwrap().privileged = true;
        let pod = node.run(spec);
        let mut main = ContainerSpec::idle("main");
        main.security().privileged = true;
        let main = node.cri.start_new(&pod, probe::given(main));
        node.cri.sh(&main, "mkdir /guest && mount -t devtmpfs none /guest");
        let agrees = || {
            let (offset, uncertainty) = offset(node, &main);
            println!("the host is ahead by {offset} ns, +- {uncertainty} ns");
            offset.abs() <= TOLERANCE + uncertainty
        };
        assert!(agrees(), "from the start");
        // Those of more than half a second are stepped over, the others slewed.
        for milliseconds in [3_600_000, -3_600_000, 100] {
            jump(milliseconds);
            println!("the host's clock jumps by {milliseconds} ms");
            eventually("the guest's clock has followed", agrees);
        }
        // And so it stays.
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            assert!(agrees(), "while the host's is steady");
        }
        jump(-100);
        node.cri.remove_pod(&pod);
    });
}

#[test]
fn limits_are_those_of_a_node() {
    any_handler(|node| {
        let pod = node.run(PodSpec::new("limits").resources(64 * MIB, 1000));
        let main = node.cri.start_new(&pod, ContainerSpec::idle("main"));
        let limits = node.cri.sh(&main, "cat /proc/self/limits");
        let limit = |value: &str| value.parse().unwrap_or(u64::MAX);
        for (name, least) in [("Max processes", u64::MAX), ("Max pending signals", 1 << 18)] {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let both = line.split_whitespace().take(2).map(limit);
            assert!(both.clone().count() == 2 && both.min() >= Some(least), "{name}: {line}");
        }
        for (file, least) in [
            ("kernel/pid_max", 4_194_304),
            ("kernel/threads-max", 1 << 22),
            ("fs/file-max", i64::MAX),
            ("fs/inotify/max_user_watches", 1 << 20),
            ("fs/fanotify/max_user_marks", 1 << 20),
            ("fs/epoll/max_user_watches", 10_000_000),
            ("user/max_user_namespaces", 1 << 18),
            ("user/max_time_namespaces", 1 << 18),
            ("net/ipv4/tcp_max_tw_buckets", 1 << 18),
            ("vm/overcommit_memory", 1),
        ] {
            let value = node.cri.sh(&main, &format!("cat /proc/sys/{file}"));
            assert!(value.trim().parse::<i64>().unwrap() >= least, "{file}: {value}");
        }
        node.cri.remove_pod(&pod);
    });
}

#[test]
fn only_the_pods_own_network_devices_are_there() {
    any_handler(|node| {
        let (pod, container) = node.idle("links");
        let links = node.cri.sh(&container, "cd /sys/class/net && ls -d */");
        assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["eth0/", "lo/"]);
        node.cri.remove_pod(&pod);
    });
}

/// The agent answers all the while: a guest that is silent for seconds would be ended.
#[test]
fn container_at_its_limit_does_not_starve_the_agent() {
    any_handler(|node| {
        let pod = node.run(PodSpec::new("thrash").resources(64 * MIB, 1000));
        // Pages of the file, which does not fit, are read and dropped again and again.
        let script = "head -c 100000000 /dev/urandom >/file; \
                      for n in 1 2 3 4; do (while :; do cat /file >/dev/null; done) & done; \
                      touch /ready; wait";
        let main = ContainerSpec::shell("main", script).memory(64 * MIB);
        let main = node.cri.start_new(&pod, main);
        eventually("it thrashes", || {
            node.cri.exec_sync(&main, &["test", "-e", "/ready"]).code == 0
        });
        let end = Instant::now() + Duration::from_secs(45);
        while Instant::now() < end {
            assert!(node.cri.ready(&pod), "the guest was taken for lost");
            assert_eq!(node.cri.sh(&main, "echo fine").trim(), "fine");
        }
        node.cri.remove_pod(&pod);
    });
}
