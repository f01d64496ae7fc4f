//! Everything but users' namespaces.

use std::os::unix::fs::chown;

use harness::ctr::{BUSYBOX, Name, RUNTIME, ctr};
use harness::host;
use serde_json::{Value, json};

use super::Bundle;

/// What is asked in the container that has everything, and the answer.
const ITEMS: [(&str, &str, &str); 28] = [
    ("user", "id -u; id -g; id -G", "5 6 6 7 8"),
    ("umask", "umask", "0027"),
    (
        "bounding and ambient capabilities",
        "grep -E 'CapBnd|CapAmb' $S",
        "CapBnd: 0000000000002401 CapAmb: 0000000000002000",
    ),
    (
        "effective capabilities",
        "grep -E 'CapEff|CapInh' $S",
        "CapInh: 0000000000002000 CapEff: 0000000000002000",
    ),
    ("no new privileges", "grep NoNew $S", "NoNewPrivs: 1"),
    ("seccomp is on", "grep Seccomp: $S", "Seccomp: 2"),
    (
        "seccomp denies",
        "mkdir /tmp/x 2>&1",
        "mkdir: can't create directory '/tmp/x': No space left on device",
    ),
    ("rlimits", "grep 'core file' /proc/self/limits", "Max core file size 1024 2048 bytes"),
    ("oomScoreAdj", "cat /proc/self/oom_score_adj", "321"),
    ("scheduler", "awk '{ print $41, $19 }' /proc/self/stat", "3 5"),
    ("ioPriority", "ionice -p $$", "best-effort: prio 6"),
    ("personality", "uname -m", "i686"),
    ("names", "hostname; cat /proc/sys/kernel/domainname", "everything example.org"),
    ("time offset", "test $(cut -d. -f1 /proc/uptime) -gt 99999999 && echo late", "late"),
    ("sysctl of the network", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "81"),
    ("sysctl of the ipc namespace", "cat /proc/sys/kernel/shm_rmid_forced", "1"),
    ("sysctl of the guest", "cat /proc/sys/vm/max_map_count", "77777"),
    ("masked file", "wc -c </masked", "0"),
    ("read-only path", "touch /tmp/protected 2>&1", "touch: /tmp/protected: Read-only file system"),
    ("read-only root", "touch /new 2>&1", "touch: /new: Read-only file system"),
    ("processes of its own", "echo $$; cat /proc/1/comm", "1 sh"),
    ("cpu", "cd /sys/fs/cgroup; cat cpu.max cpu.weight", "50000 100000 100"),
    ("memory", "cd /sys/fs/cgroup; cat memory.max memory.high", "67108864 33554432"),
    ("swap without memory", "cat /sys/fs/cgroup/memory.swap.max", "33554432"),
    ("pids and huge pages", "cd /sys/fs/cgroup; cat pids.max hugetlb.2MB.max", "50 2097152"),
    ("weight of io", "cat /sys/fs/cgroup/io.bfq.weight", "default 300"),
    ("device", "stat -c '%a %u %t,%T' /dev/extra; head -c 1 /dev/extra | wc -c", "600 5 1,5 1"),
    ("hooks of the guest", "cat /tmp/hooks", "create start"),
];

#[test]
fn everything_of_a_configuration_has_its_effect_at_once() {
    // Blanks and line ends are of no interest: the answer is one line of words.
    let ask = |(name, command, _): &(&str, &str, &str)| {
        format!("echo \"## {name}\"; echo $({command})\n")
    };
    let script: String = ITEMS.iter().map(ask).collect();
    let applets = [
        "id", "umask", "grep", "mkdir", "awk", "ionice", "uname", "hostname", "cut", "test",
        "stat", "head", "tr",
    ];
    let mut bundle = Bundle::new("everything", &format!("S=/proc/self/status\n{script}"));
    let root = bundle.path("root");
    for applet in applets {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    for file in ["masked", "tmp/protected", "tmp/hooks"] {
        std::fs::write(root.join(file), if file == "masked" { "secret" } else { "" }).unwrap();
        chown(root.join(file), Some(5), Some(6)).unwrap();
    }
    give_everything(&mut bundle);
    let done = bundle.run();
    let answers: Vec<_> = done.stdout.split("## ").skip(1).collect();
    assert_eq!((answers.len(), done.code), (ITEMS.len(), Some(0)), "{done:?}");
    let wrong = ITEMS.iter().zip(answers).filter_map(|((name, _, expected), answer)| {
        let found = answer.strip_prefix(name).unwrap_or(answer).trim();
        (found != *expected).then(|| format!("{name}: {found:?}, not {expected:?}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", done.stderr);
    // What is left out is said.
    let log = std::fs::read_to_string("/var/log/containerd.log").unwrap();
    for word in ["SELinux label", "cpuset cpus", "unified cpuset.mems"] {
        let is_said = |line: &str| line.contains(bundle.name.as_str()) && line.contains(word);
        assert!(log.lines().any(is_said), "{word}: {log}");
    }
    host::settled();
}

fn give_everything(bundle: &mut Bundle) {
    let share = format!("/run/cuddy/share/{}/rootfs/tmp/hooks", bundle.name.as_str());
    let hook =
        |path: &str, script: String| json!({"path": path, "args": ["busybox", "sh", "-c", script]});
    let spec = &mut bundle.spec;
    spec["hostname"] = json!("everything");
    spec["domainname"] = json!("example.org");
    spec["root"]["readonly"] = json!(true);
    spec["process"]["user"] = json!({"uid": 5, "gid": 6, "umask": 0o027, "additionalGids": [7, 8]});
    spec["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"],
        "effective": ["CAP_NET_RAW"], "permitted": ["CAP_NET_RAW"],
        "inheritable": ["CAP_NET_RAW"], "ambient": ["CAP_NET_RAW"],
    });
    spec["process"]["noNewPrivileges"] = json!(true);
    spec["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "hard": 2048, "soft": 1024}]);
    spec["process"]["oomScoreAdj"] = json!(321);
    spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    // Kubernetes writes both for every container, on hosts that have them.
    spec["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0:c1,c2");
    spec["process"]["apparmorProfile"] = json!("cri-containerd.apparmor.d");
    spec["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0:c1,c2");
    spec["linux"]["personality"] = json!({"domain": "LINUX32"});
    spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 100_000_000}});
    spec["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "81",
        "kernel.shm_rmid_forced": "1", "vm.max_map_count": "77777"});
    spec["linux"]["maskedPaths"] = json!(["/masked"]);
    spec["linux"]["readonlyPaths"] = json!(["/tmp/protected"]);
    spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]});
    let extra = json!({"path": "/dev/extra", "type": "c", "major": 1, "minor": 5,
        "fileMode": 0o600, "uid": 5});
    spec["linux"]["devices"] = json!([extra]);
    spec["linux"]["resources"] = json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "cpu": {"quota": 50_000, "period": 100_000, "shares": 1024, "cpus": "0-63"},
        "memory": {"limit": 67_108_864, "swap": 100_663_296},
        "pids": {"limit": 50},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 2_097_152}],
        "blockIO": {"weight": 300},
        "unified": {"memory.high": "33554432", "cpuset.mems": "7"},
    });
    // Of the host, but run in the guest; and the container's own.
    spec["hooks"] = json!({
        "createContainer": [hook("/usr/bin/busybox", format!("echo create >> {share}"))],
        "startContainer": [hook("/bin/busybox", "echo start >> /tmp/hooks".into())],
    });
    let cgroup = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["ro", "nosuid", "noexec", "nodev"]});
    let tmp = json!({"destination": "/tmp", "type": "bind", "source": bundle.path("root/tmp"),
        "options": ["rbind"]});
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.push("/mounts", tmp);
    if !bundle.spec["mounts"].to_string().contains("/sys/fs/cgroup") {
        bundle.push("/mounts", cgroup);
    }
}

#[test]
fn hooks_of_the_host_run_beside_the_shim() {
    let mut bundle = Bundle::new("hooks", "cat /from-hook");
    let order = bundle.path("order");
    let script =
        |word: &str| format!("echo {word} >> {}; cat >> {}", order.display(), order.display());
    let hook = |word: &str| {
        json!({"path": "/bin/sh", "args": ["sh", "-c", script(word)],
        "env": ["PATH=/usr/bin:/bin"], "timeout": 60})
    };
    // A hook that changes the root filesystem, as those of GPU vendors do.
    let file = bundle.path("root/from-hook");
    let change = format!("echo changed > {}", file.display());
    let change = json!({"path": "/bin/sh", "args": ["sh", "-c", change]});
    bundle.spec["annotations"] = json!({"test.cuddy/key": "value"});
    bundle.spec["hooks"] = json!({"prestart": [hook("prestart")],
        "createRuntime": [hook("createRuntime"), change], "poststart": [hook("poststart")],
        "poststop": [hook("poststop")]});
    assert_eq!(bundle.run().ok(), "changed\n");
    let told = std::fs::read_to_string(&order).unwrap();
    let words: Vec<_> = told.lines().collect();
    let at = |word: &str| words.iter().position(|line| line.ends_with(word)).unwrap();
    assert!(
        at("prestart") < at("createRuntime") && at("createRuntime") < at("poststart"),
        "{told}"
    );
    assert!(at("poststart") < at("poststop"), "{told}");
    for (status, count) in [("creating", 2), ("running", 1), ("stopped", 1)] {
        assert_eq!(told.matches(&format!("\"status\":\"{status}\"")).count(), count, "{told}");
    }
    assert_eq!(told.matches("test.cuddy/key").count(), 4, "{told}");
    host::settled();
    let refuse = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no luck >&2; exit 5"]});
    // Whatever stops a creation after the first hook, the last ones learn of the end.
    for (word, refusing) in [
        ("no luck", json!({"createRuntime": [refuse], "poststop": [hook("poststop")]})),
        (
            "exit status: 1",
            json!({"createContainer": [{"path": "/usr/bin/busybox", "args": ["false"]}],
                "createRuntime": [hook("createRuntime")], "poststop": [hook("poststop")]}),
        ),
    ] {
        std::fs::write(&order, "").unwrap();
        let mut bundle = Bundle::new("refusing", "echo never");
        bundle.spec["hooks"] = refusing;
        let done = bundle.run();
        assert!(done.code != Some(0) && done.stderr.contains(word), "{word}: {done:?}");
        let told = std::fs::read_to_string(&order).unwrap();
        assert_eq!(told.matches("\"status\":\"stopped\"").count(), 1, "{word}: {told}");
        ctr(&["container", "rm", bundle.name.as_str()]);
        host::settled();
    }
}

#[test]
fn apparmor_profile_of_the_host_is_enforced_in_the_guest() {
    const PROFILE: &str = "cuddy-test-deny-tmp";
    let policy = include_bytes!("../../../../agent/tests/policies/deny-tmp.policy");
    std::fs::write("/sys/kernel/security/apparmor/.replace", policy).unwrap();
    let name = Name::new("apparmor");
    let script =
        "cat /proc/self/attr/current; mkdir -p /tmp; touch /tmp/x; touch /run/x && echo fine";
    let fixed = ["run", "--rm", "--runtime", RUNTIME, "--apparmor-profile"];
    let with = |profile: &str, name: &Name| {
        let rest = [profile, BUSYBOX, name.as_str(), "sh", "-c", script];
        ctr(&[&fixed[..], &rest[..]].concat())
    };
    let done = with(PROFILE, &name);
    assert_eq!(done.stdout, format!("{PROFILE} (enforce)\nfine\n"), "{done:?}");
    assert!(done.stderr.contains("/tmp/x: Permission denied"), "{done:?}");
    let name = Name::new("unloaded");
    let done = with("cuddy-test-unloaded", &name);
    assert!(done.stderr.contains("the host has not loaded it"), "{done:?}");
    ctr(&["container", "rm", name.as_str()]);
    host::settled();
}

#[test]
fn what_a_machine_can_not_give_is_refused_by_name() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 5] = [
        ("listenerPath", |spec| {
            spec["linux"]["seccomp"] =
                json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"});
        }),
        ("uidMappings without a user namespace", |spec| {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
        }),
        ("timeOffsets without a time namespace", |spec| {
            spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 100}});
        }),
        ("deny c 10:200 rwm", |spec| {
            spec["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "access": "rwm"},
                {"allow": false, "type": "c", "major": 10, "minor": 200, "access": "rwm"}]);
        }),
        ("memory.nothing", |spec| {
            spec["linux"]["resources"]["unified"] = json!({"memory.nothing": "1"});
        }),
    ];
    for (word, change) in cases {
        let mut bundle = Bundle::new("refused", "echo never");
        change(&mut bundle.spec);
        let done = bundle.run();
        assert!(done.code != Some(0) && done.stderr.contains(word), "{word}: {done:?}");
        assert_eq!(done.stdout, "", "{word}");
        ctr(&["container", "rm", bundle.name.as_str()]);
    }
    host::settled();
}
