//! A pod's life as CRI-O leads it through its runtime type `vm`. The calls are made by a client of
//! our own: Debian (bookworm, trixie, its backports) has no package of CRI-O.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::path::Path;
use std::process::Command;

use harness::cri_o::Pod;
use harness::{eventually, host};

const POD: &str = "cri-o-pod";
const RUNNING: i32 = 2;

#[test]
fn pod_lives_and_ends_without_events_and_without_delete() {
    let mut pod = Pod::new(POD);
    let silence = pod.create(POD, &["sleep", "1000"], None);
    pod.start(POD, "");
    let output = pod.create("web", &["sh", "-c", "echo out; exec sleep 1000"], None);
    pod.start("web", "");
    assert_eq!(host::vmms().len(), 1, "a pod is one machine");
    assert_eq!(pod.exec("web", "one", r#""sh","-c","echo hi; exit 5""#), (5, "hi\n".to_owned()));
    statistics(&pod);
    // The infrastructure container is the machine: nothing of it runs in the guest.
    let (_, seen) = pod.exec("web", "two", r#""sh","-c","busybox pidof sleep | busybox wc -w""#);
    assert_eq!(seen.trim(), "1", "the container's own");
    pod.kill(POD, 0);
    let metrics = pod.stats(POD);
    assert!(metrics.cpu.is_some() && metrics.memory.is_some() && metrics.pids.is_some());

    pod.restart("web");
    pod.kill("web", 0);
    let state = pod.state("web");
    assert_eq!(state.status.value(), RUNNING);
    assert_eq!(state.stdout, pod.bundle("web").join("stdout").display().to_string());

    pod.kill("web", 9);
    assert_eq!((pod.wait("web", ""), output.text().as_str()), (137, "out\n"));
    assert!(!pod.bundle("web").join("oom").exists());
    pod.remove("web");
    assert_eq!(pod.state(POD).status.value(), RUNNING);

    out_of_memory(&mut pod);
    pod.kill(POD, 9);
    assert_eq!((pod.wait(POD, ""), silence.text().as_str()), (137, ""));
    pod.remove(POD);
    host::settled();
}

/// CRI-O looks into these without asking whether they are there.
fn statistics(pod: &Pod) {
    let metrics = pod.stats("web");
    assert!(metrics.cpu.is_some() && metrics.pids.is_some(), "{metrics}");
    assert!(metrics.memory.usage > 0 && metrics.pids.current > 0, "{metrics}");
}

/// The exit says 137 whoever killed; the file in the bundle says that it was the kernel.
fn out_of_memory(pod: &mut Pod) {
    let arguments = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
    let output = pod.create("hog", &arguments, Some(16 << 20));
    pod.start("hog", "");
    assert_eq!((pod.wait("hog", ""), output.text().as_str()), (137, ""));
    assert!(pod.bundle("hog").join("oom").exists(), "no file oom in the bundle");
    pod.remove("hog");
}

/// A network namespace as CRI-O has one made for each pod; it ends with the value.
struct Netns(&'static str);

impl Netns {
    /// Its `eth0` has the address 10.9.7.2 and leads to the node's 10.9.7.1.
    fn new(name: &'static str) -> Self {
        sh(&format!("ip netns add {name}; ip -n {name} link set lo up")).unwrap();
        let netns = Self(name);
        let peer = format!("ip -n {name} link add eth0 type veth peer name veth-{name} netns 1");
        sh(&peer).unwrap();
        sh(&format!("ip addr add 10.9.7.1/24 dev veth-{name}; ip link set veth-{name} up"))
            .unwrap();
        sh(&format!("ip -n {name} addr add 10.9.7.2/24 dev eth0")).unwrap();
        sh(&format!("ip -n {name} link set eth0 up")).unwrap();
        netns
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        sh(&format!("ip netns del {}", self.0)).unwrap();
    }
}

/// Runs a shell command; its output, or all that it said when it failed.
fn sh(script: &str) -> Result<String, String> {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap());
    }
    Err(format!("{script}: {output:?}"))
}

#[test]
fn network_is_the_namespaces_with_its_loopback() {
    let netns = Netns::new("crio");
    let mut pod = Pod::new(POD).network(Path::new("/var/run/netns/crio"));
    let silence = pod.create(POD, &["sleep", "1000"], None);
    pod.start(POD, "");
    // Ports of everybody: the process has no capability.
    let script = "busybox mkdir -p /www; echo from the guest >/www/index.html; \
                  busybox httpd -p 127.0.0.1:8080 -h /www; exec busybox httpd -f -p 8081 -h /www";
    let output = pod.create("web", &["sh", "-c", script], None);
    pod.start("web", "");
    let (code, seen) = pod.exec("web", "look", r#""busybox","ip","addr","show","eth0""#);
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("inet 10.9.7.2/24") && seen.contains(",UP"), "{seen}");
    // Port forwarding: CRI-O dials loopback in the pod's namespace.
    let inside = "ip netns exec crio timeout 60 busybox wget -qO- http://127.0.0.1:8080/index.html";
    let outside = "timeout 60 busybox wget -qO- http://10.9.7.2:8081/index.html";
    for fetch in [outside, inside] {
        eventually("the guest serves", || {
            let fetched = sh(fetch);
            println!("{fetched:?}");
            fetched.is_ok()
        });
        assert_eq!(sh(fetch).unwrap(), "from the guest\n", "{fetch}");
    }
    assert!(
        sh("timeout 60 busybox wget -qO- http://10.9.7.2:8080/").is_err(),
        "loopback is the pod's"
    );
    pod.kill("web", 9);
    assert_eq!((pod.wait("web", ""), output.text().as_str()), (137, ""));
    pod.remove("web");
    pod.kill(POD, 9);
    assert_eq!((pod.wait(POD, ""), silence.text().as_str()), (137, ""));
    pod.remove(POD);
    host::settled();
    drop(netns);
}

/// A pod's cgroup, as the kubelet makes it before the pod; it ends with the value.
struct PodCgroup(&'static str);

impl PodCgroup {
    fn new(path: &'static str, limits: &[(&str, &str)]) -> Self {
        let cgroup = Self(path);
        sh(&format!("cd /sys/fs/cgroup; echo +memory +cpu >cgroup.subtree_control; mkdir .{path}"))
            .unwrap();
        for (file, value) in limits {
            std::fs::write(cgroup.file(file), value).unwrap();
        }
        cgroup
    }

    fn file(&self, name: &str) -> String {
        format!("/sys/fs/cgroup{}/{name}", self.0)
    }

    /// A number in one of its files, in MiB.
    fn mib(&self, file: &str) -> u64 {
        std::fs::read_to_string(self.file(file)).unwrap().trim().parse::<u64>().unwrap() >> 20
    }
}

impl Drop for PodCgroup {
    fn drop(&mut self) {
        let directory = self.file("");
        eventually("the pod's cgroup can be removed", || std::fs::remove_dir(&directory).is_ok());
    }
}

/// Boots a pod, and asks its guest for its size: CPUs and memory in MiB, less than was given to it
/// by what its kernel takes for itself.
fn size(mut pod: Pod) -> (u32, u64) {
    let silence = pod.create(POD, &["sleep", "1000"], None);
    pod.start(POD, "");
    let output = pod.create("web", &["sh", "-c", "exec sleep 1000"], None);
    pod.start("web", "");
    let ask = r#""sh","-c","busybox nproc; busybox awk '/^MemTotal/ { print $2 }' /proc/meminfo""#;
    let (code, text) = pod.exec("web", "size", ask);
    assert_eq!(code, 0, "{text}");
    let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    end(&pod, "web");
    end(&pod, POD);
    drop((silence, output));
    host::settled();
    (u32::try_from(numbers[0]).unwrap(), numbers[1] >> 10)
}

fn end(pod: &Pod, id: &str) {
    pod.kill(id, 9);
    assert_eq!(pod.wait(id, ""), 137);
    pod.remove(id);
}

#[test]
fn machine_is_as_large_as_the_pods_limits() {
    // Limits of 256Mi and 1.5 CPUs, 140Mi and 1m of overhead; what CRI-O says comes first.
    let limits = [("memory.max", "415236096"), ("cpu.max", "150100 100000")];
    let cgroup = PodCgroup::new("/crio-sized", &limits);
    let (cpus, by_cgroup) = size(Pod::new(POD).cgroup(cgroup.0));
    assert_eq!(cpus, 2);
    // 256 and 128, less two for tables on the host; of 512 it would be at least 450.
    assert!((330..=382).contains(&by_cgroup), "{by_cgroup} MiB");
    let resources = r#"{"cpu_period":100000,"cpu_quota":50000,"memory_limit_in_bytes":268435456}"#;
    let (cpus, by_annotation) = size(Pod::new(POD).cgroup(cgroup.0).resources(resources));
    assert_eq!(cpus, 1);
    // The second CPU's own data takes up to a MiB of the first guest.
    assert!((by_cgroup..=by_cgroup + 1).contains(&by_annotation), "{by_annotation} MiB");
}

#[test]
fn next_pod_clears_up_after_a_dead_shim() {
    let cgroup = PodCgroup::new("/crio-swept", &[]);
    let mut lost = Pod::new("cri-o-lost").cgroup(cgroup.0);
    let silence = lost.create("cri-o-lost", &["sleep", "1000"], None);
    lost.start("cri-o-lost", "");
    let [shim] = host::shims()[..] else { panic!("one shim") };
    let state = Path::new("/run/cuddy/default/cri-o-lost");
    let own = cgroup.file("crio-cri-o-lost");
    host::kill(shim);
    eventually("a machine ends with its shim", || host::vmms().is_empty());
    assert!(state.exists() && Path::new(&own).exists());
    assert_eq!(silence.text(), "");

    let mut next = Pod::new(POD);
    let silence = next.create(POD, &["sleep", "1000"], None);
    assert!(!state.exists() && !Path::new(&own).exists());
    let sockets = std::fs::read_dir("/run/containerd/s").unwrap().count();
    assert_eq!(sockets, 1, "that of the living pod");
    next.start(POD, "");
    end(&next, POD);
    assert_eq!(silence.text(), "");
    host::settled();
}

/// The guest has touched every page, without huge ones on the host: its memory, their tables and
/// all else of the pod hold in the limit that the kubelet sets.
#[test]
fn full_guest_holds_in_the_pods_cgroup() {
    // 512Mi and the RuntimeClass's 140Mi.
    let cgroup = PodCgroup::new("/crio-full", &[("memory.max", "683671552")]);
    let mut pod = Pod::new(POD).cgroup(cgroup.0);
    let silence = pod.create(POD, &["sleep", "1000"], None);
    pod.start(POD, "");
    // A file that is nothing but holes takes no memory on the host.
    let cache = pod.create("cache", &["sh", "-c", "exec sleep 1000"], None);
    let sparse = pod.bundle("cache").join("image/root/data/sparse");
    std::fs::File::create(&sparse).unwrap().set_len(750 << 20).unwrap();
    pod.start("cache", "");
    let read = r#""busybox","sh","-c","cat /data/sparse >/dev/null""#;
    assert_eq!(pod.exec("cache", "read", read).0, 0);
    let arguments = ["dd", "if=/dev/zero", "of=/dev/null", "bs=480M", "count=1"];
    let hog = pod.create("hog", &arguments, Some(512 << 20));
    pod.start("hog", "");
    assert_eq!(pod.wait("hog", ""), 0);
    pod.remove("hog");
    assert_eq!(pod.exec("cache", "again", read).0, 0);
    let events = std::fs::read_to_string(cgroup.file("memory.events")).unwrap();
    let (peak, most) = (cgroup.mib("memory.peak"), cgroup.mib("memory.max"));
    println!("at most {peak} of {most} MiB; {events}");
    assert!(events.contains("oom_kill 0"), "{events}");
    // The pod's 512 MiB hold in the guest, too, with what its files take; its kernel takes the rest.
    assert!(peak > 560, "the guest has touched too little: {peak} MiB");
    end(&pod, "cache");
    end(&pod, POD);
    drop((silence, cache, hog));
    host::settled();
}
