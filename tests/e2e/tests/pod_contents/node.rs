//! What a workload sees of its machine, and would otherwise see of the node. That is the clock, and
//! limits that Linux derives from the size of its memory. Besides, a container whose memory is full
//! must not starve the agent.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::cri::node::any_handler;
use harness::cri::{ContainerSpec, PodSpec};
use harness::shim::{Pod, Task, busybox_root, mount};
use harness::{PATIENCE, eventually, host};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use serde_json::json;

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

/// A pod whose only container tells again and again how far the host's clock is ahead, in `output`.
/// It may use every device of its guest, which no privileged container may.
fn watcher(output: &Path) -> (Pod, Task) {
    let script = format!("mount -t devtmpfs none /data && exec {}", probe::command("clock"));
    let pod = Pod::new("clock", &script);
    pod.bind(&std::env::current_exe().unwrap(), probe::PLACE, &["bind", "ro"]);
    pod.configure(|config| {
        let all = ["CAP_SYS_ADMIN"];
        config["process"]["capabilities"] =
            json!({"bounding": all, "effective": all, "permitted": all});
        config["linux"]["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]});
    });
    let root = busybox_root(pod.bundle());
    let task = pod.start(vec![mount("bind", &root, &["rbind"])], output);
    (pod, task)
}

/// Whether the next clock that the container tells is the host's.
fn agrees(output: &Path) -> bool {
    let told = || {
        let text = std::fs::read_to_string(output).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once("the host is ahead by "));
        let values: Vec<String> = lines.map(|(_, values)| values.to_owned()).collect();
        values
    };
    let before = told().len();
    // The first after a jump may have begun before it.
    eventually("it tells two more", || told().len() > before + 2);
    let values = told().swap_remove(before + 1);
    let (offset, uncertainty) = values.split_once(" +- ").unwrap();
    println!("the host is ahead by {offset} ns, +- {uncertainty} ns");
    let (offset, uncertainty): (i64, i64) = (offset.parse().unwrap(), uncertainty.parse().unwrap());
    offset.abs() <= TOLERANCE + uncertainty
}

#[test]
fn clock_follows_the_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("output");
    let (pod, task) = watcher(&output);
    assert!(agrees(&output), "from the start");
    // Those of more than half a second are stepped over, the others slewed.
    for milliseconds in [3_600_000, -3_600_000, 100] {
        jump(milliseconds);
        println!("the host's clock jumps by {milliseconds} ms");
        eventually("the guest's clock has followed", || agrees(&output));
    }
    // And so it stays.
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        assert!(agrees(&output), "while the host's is steady");
    }
    jump(-100);
    task.kill(PATIENCE).unwrap();
    task.wait(PATIENCE).unwrap();
    task.delete(PATIENCE).unwrap();
    task.shutdown(PATIENCE).unwrap();
    drop(pod);
    host::settled();
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

/// The agent answers all the while: a guest that is silent for seconds would be ended.
#[test]
fn container_at_its_limit_does_not_starve_the_agent() {
    any_handler(|node| {
        let pod = node.run(PodSpec::new("thrash").resources(64 * MIB, 1000));
        // Pages of the file, which does not fit, are read and dropped again and again.
        let script = "dd if=/dev/zero of=/file bs=1M count=96; \
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
