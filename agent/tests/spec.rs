//! The OCI runtime specification item by item, in containers of a real agent. The items are those
//! of the specification's own text, of opencontainers/runtime-tools' validation programs and of
//! runc's integration tests. They need root and a static busybox; `make e2e` runs them in the lab.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "support/agent.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use agent_api::container::CreateContainerRequest;
use agent_api::types::{ContainerId, Streams};
use serde_json::{Value, json};
use support::{Agent, context, shell, spec};

/// A place of a configuration and what it is set to.
type Change = (&'static str, fn() -> Value);

/// A container that differs from the usual one at `change`d places, and what it prints.
struct Case {
    change: &'static [Change],
    command: &'static str,
    prints: &'static str,
}

/// Sets a place of a configuration, a list's next entry if the pointer ends with `-`.
fn set(spec: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match spec.pointer_mut(parent).unwrap() {
        Value::Array(list) => list.push(value),
        object => object[name] = value,
    }
}

/// Runs all cases and tells all that went wrong, not the first one only.
async fn check(cases: &[Case]) {
    let agent = Agent::start().await;
    let mut wrong = Vec::new();
    for Case { change, command, prints } in cases {
        let mut spec = spec(&agent.rootfs(), command);
        for (pointer, value) in *change {
            set(&mut spec, pointer, value());
        }
        let (status, out, error) = match agent.create(&spec).await {
            Ok(mut container) => {
                container.start("").await.unwrap();
                let (out, error) = container.output().await;
                let status = container.wait("").await.exit_status;
                container.delete().await.unwrap();
                (status, out, error)
            }
            Err(error) => (0, String::new(), error.to_string()),
        };
        if (status, out.as_str()) != (0, *prints) || !error.is_empty() {
            wrong.push(format!("{command}\n  printed {out:?}, not {prints:?}; {status}, {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Policy, nice value and priority of the shell itself, which a deadline forbids to fork.
const SCHEDULING: &str = "read -r line </proc/self/stat; set -- $line; echo ${41} ${19} ${40}";

#[tokio::test]
async fn process_has_the_stated_scheduling_and_personality() {
    check(&[
        Case {
            change: &[("/process/scheduler", || json!({"policy": "SCHED_BATCH", "nice": 19}))],
            command: SCHEDULING,
            prints: "3 19 0\n",
        },
        Case {
            change: &[("/process/scheduler", || {
                json!({"policy": "SCHED_FIFO", "priority": 7,
                "flags": ["SCHED_FLAG_RESET_ON_FORK"]})
            })],
            command: SCHEDULING,
            prints: "1 0 7\n",
        },
        Case {
            change: &[("/process/scheduler", || {
                json!({"policy": "SCHED_DEADLINE",
                "runtime": 10_000_000, "deadline": 100_000_000, "period": 100_000_000})
            })],
            command: SCHEDULING,
            prints: "6 0 0\n",
        },
        Case {
            change: &[(
                "/process/ioPriority",
                || json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}),
            )],
            command: "busybox ionice -p $$",
            prints: "idle\n",
        },
        Case {
            change: &[(
                "/process/ioPriority",
                || json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
            )],
            command: "busybox ionice -p $$",
            prints: "best-effort: prio 6\n",
        },
        Case {
            change: &[("/linux/personality", || json!({"domain": "LINUX32", "flags": null}))],
            command: "busybox uname -m",
            prints: "i686\n",
        },
        Case {
            change: &[("/linux/personality", || json!({"domain": "LINUX"}))],
            command: "busybox uname -m",
            prints: "x86_64\n",
        },
    ])
    .await;
}

#[tokio::test]
async fn namespaces_have_the_stated_names_clocks_and_propagation() {
    const ROOT: &str =
        "awk '$5 == \"/\" { print $7 ~ /shared/, $7 ~ /unbindable/ }' /proc/self/mountinfo";
    check(&[
        Case {
            change: &[("/domainname", || json!("example.org")), ("/hostname", || json!("h"))],
            command: "cat /proc/sys/kernel/domainname /proc/sys/kernel/hostname",
            prints: "example.org\nh\n",
        },
        Case {
            change: &[
                ("/linux/namespaces/-", || json!({"type": "time"})),
                ("/linux/timeOffsets", || {
                    json!({"boottime": {"secs": 100_000_000, "nanosecs": 5},
                    "monotonic": {"secs": 200_000_000}})
                }),
            ],
            command: "test $(cut -d. -f1 /proc/uptime) -gt 99999999 && \
                      tr -s ' ' </proc/self/timens_offsets",
            prints: "monotonic 200000000 0\nboottime 100000000 5\n",
        },
        Case {
            change: &[("/linux/rootfsPropagation", || json!("shared"))],
            command: ROOT,
            prints: "1 0\n",
        },
        Case {
            change: &[("/linux/rootfsPropagation", || json!("unbindable"))],
            command: ROOT,
            prints: "0 1\n",
        },
        Case {
            change: &[("/linux/rootfsPropagation", || json!("rslave"))],
            command: ROOT,
            prints: "0 0\n",
        },
    ])
    .await;
}

#[tokio::test]
async fn user_limits_and_privileges_are_as_stated() {
    check(&[
        Case {
            change: &[("/process/rlimits", || {
                json!([
                    {"type": "RLIMIT_CORE", "hard": 2048, "soft": 1024},
                    {"type": "RLIMIT_STACK", "hard": u64::MAX, "soft": 8_388_608},
                    {"type": "RLIMIT_NICE", "hard": 20, "soft": 10},
                    {"type": "RLIMIT_RTTIME", "hard": 9, "soft": 8},
                ])
            })],
            command: "grep -E 'core|stack|nice|timeout' /proc/self/limits | tr -s ' '",
            prints: "Max stack size 8388608 unlimited bytes \nMax core file size 1024 2048 bytes \n\
                     Max nice priority 10 20 \nMax realtime timeout 8 9 us \n",
        },
        Case {
            change: &[("/process/user", || {
                json!({"uid": 5, "gid": 6, "umask": 23,
                "additionalGids": [0, 7, 100_000]})
            })],
            command: "id -u; id -g; grep Groups: /proc/self/status; umask",
            prints: "5\n6\nGroups:\t0 7 100000 \n0027\n",
        },
        Case {
            change: &[
                ("/process/noNewPrivileges", || json!(false)),
                ("/process/capabilities", || Value::Null),
            ],
            command: "grep -E 'CapBnd|CapEff|NoNewPrivs' /proc/self/status",
            prints: "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t0\n",
        },
        Case {
            change: &[
                ("/process/user", || json!({"uid": 9, "gid": 9})),
                ("/process/capabilities", || {
                    json!({"bounding": ["CAP_NET_RAW", "CAP_FLY"],
                    "permitted": ["CAP_NET_RAW"], "inheritable": ["CAP_NET_RAW"],
                    "ambient": ["CAP_NET_RAW"]})
                }),
            ],
            command: "grep Cap /proc/self/status | cut -f2 | tr '\\n' ' '",
            prints: "0000000000002000 0000000000002000 0000000000002000 0000000000002000 \
                     0000000000002000 ",
        },
        Case {
            change: &[("/process/oomScoreAdj", || json!(-500))],
            command: "cat /proc/self/oom_score_adj",
            prints: "-500\n",
        },
    ])
    .await;
}

#[tokio::test]
async fn devices_and_hidden_paths_are_as_stated() {
    check(&[
        Case {
            change: &[("/linux/devices", || json!([
                {"path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 3, "gid": 4},
                {"path": "/deep/dir/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600},
                {"path": "/dev/blk", "type": "b", "major": 7, "minor": 300},
                {"path": "/dev/u", "type": "u", "major": 1, "minor": 5, "uid": 12},
                {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
            ]))],
            command: "for f in /dev/pipe /deep/dir/full /dev/blk /dev/u /dev/null; do \
                      stat -c '%F %a %u:%g %t,%T' $f; done",
            prints: "fifo 640 3:4 0,0\ncharacter special file 600 0:0 1,7\n\
                     block special file 666 0:0 7,12c\ncharacter special file 666 12:0 1,5\n\
                     character special file 666 0:0 1,3\n",
        },
        Case {
            change: &[
                ("/linux/maskedPaths", || json!(["/etc/passwd", "/home", "/no/such"])),
                ("/linux/readonlyPaths", || json!(["/tmp", "/run", "/neither"])),
            ],
            command: "wc -c </etc/passwd; ls -A /home | wc -l; touch /home/x 2>&1; \
                      touch /tmp/x 2>&1; touch /run/x 2>&1; touch /etc/y",
            prints: "0\n0\ntouch: /home/x: Read-only file system\n\
                     touch: /tmp/x: Read-only file system\n\
                     touch: /run/x: Read-only file system\n",
        },
        Case {
            // Terminals are the container's own, another's or the guest's are out of reach.
            change: &[],
            command: "ls /dev/pts; readlink /dev/ptmx; test -e /dev/console || echo none",
            prints: "ptmx\npts/ptmx\nnone\n",
        },
    ])
    .await;
}

#[tokio::test]
async fn seccomp_profiles_mean_what_libseccomp_makes_of_them() {
    fn profile(default: &str, rule: Value) -> Value {
        json!({"defaultAction": default, "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [rule]})
    }
    fn denied(args: Value) -> Value {
        let names = ["chmod", "fchmodat", "fchmodat2", "no_such_call"];
        profile("SCMP_ACT_ALLOW", json!({"names": names, "action": "SCMP_ACT_ERRNO", "args": args}))
    }
    const CHMODS: &str = "for mode in 600 640 700; do \
                          chmod $mode /etc/passwd 2>/dev/null && echo $mode; done; true";
    check(&[
        Case {
            change: &[("/linux/seccomp", || denied(json!([{"index": 1, "value": 0o640,
                "op": "SCMP_CMP_EQ"}])))],
            command: CHMODS,
            prints: "600\n700\n",
        },
        Case {
            change: &[("/linux/seccomp", || denied(json!([{"index": 1, "value": 0o640,
                "op": "SCMP_CMP_GE"}])))],
            command: CHMODS,
            prints: "600\n",
        },
        Case {
            change: &[("/linux/seccomp", || denied(json!([{"index": 1, "value": 0o640,
                "op": "SCMP_CMP_LT"}])))],
            command: CHMODS,
            prints: "640\n700\n",
        },
        Case {
            // The bits of 0o700 alone.
            change: &[("/linux/seccomp", || denied(json!([{"index": 1, "value": 0o100,
                "valueTwo": 0o100, "op": "SCMP_CMP_MASKED_EQ"}])))],
            command: CHMODS,
            prints: "600\n640\n",
        },
        Case {
            // An alternative each, because they look at the same argument.
            change: &[("/linux/seccomp", || denied(json!([
                {"index": 1, "value": 0o600, "op": "SCMP_CMP_EQ"},
                {"index": 1, "value": 0o700, "op": "SCMP_CMP_EQ"}])))],
            command: CHMODS,
            prints: "640\n",
        },
        Case {
            change: &[("/linux/seccomp", || profile("SCMP_ACT_ALLOW",
                json!({"names": ["getpriority"], "action": "SCMP_ACT_KILL_PROCESS"})))],
            command: "grep -c 'Seccomp:.2' /proc/self/status; grep Seccomp_filters /proc/self/status",
            prints: "1\nSeccomp_filters:\t1\n",
        },
        Case {
            change: &[("/linux/seccomp", || json!({"defaultAction": "SCMP_ACT_LOG"}))],
            command: "echo runs",
            prints: "runs\n",
        },
    ])
    .await;
}

#[tokio::test]
async fn seccomp_profile_is_not_in_the_agents_own_way() {
    let agent = Agent::start().await;
    let mut spec = spec(&agent.rootfs(), "grep -c 'Seccomp:.2' /proc/self/status");
    // Without, it is in force before the program's start is ordered, over a socket.
    spec["process"]["noNewPrivileges"] = json!(false);
    let calls = ["sendmsg", "recvmsg", "sendto", "recvfrom", "sendmmsg", "recvmmsg"];
    spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": calls, "action": "SCMP_ACT_KILL_PROCESS"}]});
    assert_eq!(agent.run(&spec).await.1, "1\n");
    spec["process"]["args"] = json!(["/etc/passwd"]);
    let Err(error) = agent.create(&spec).await else { panic!("created") };
    assert!(error.to_string().contains("permission denied"), "{error}");
}

#[tokio::test]
async fn user_namespaces_may_share_the_pods_other_namespaces() {
    fn maps() -> Value {
        json!([{"containerID": 0, "hostID": 100_000, "size": 1000},
            {"containerID": 1000, "hostID": 200_000, "size": 64_536}])
    }
    const SEEN: &str = "id -u; awk '{ print $1, $2, $3 }' /proc/self/uid_map; \
                        grep -cE ' /(proc|dev/mqueue) ' /proc/self/mountinfo; \
                        stat -c %u:%g /etc/passwd";
    // What is root's on the disk belongs to nobody here.
    const PRINTS: &str = "1000\n0 100000 1000\n1000 200000 64536\n2\n65534:65534\n";
    check(&[
        Case {
            change: &[
                ("/linux/namespaces", || {
                    json!([{"type": "user"}, {"type": "mount"},
                    {"type": "cgroup"}, {"type": "uts"}])
                }),
                ("/linux/uidMappings", maps),
                ("/linux/gidMappings", maps),
                ("/process/user", || json!({"uid": 1000, "gid": 1000})),
                ("/linux/sysctl", || json!({})),
            ],
            command: SEEN,
            prints: PRINTS,
        },
        Case {
            change: &[
                ("/linux/namespaces/-", || json!({"type": "user"})),
                ("/linux/uidMappings", maps),
                ("/linux/gidMappings", maps),
                ("/process/user", || json!({"uid": 1000, "gid": 1000})),
            ],
            command: SEEN,
            prints: PRINTS,
        },
    ])
    .await;
}

#[tokio::test]
async fn containers_share_the_pods_user_namespace() {
    let agent = Agent::start().await;
    let pod = |host: u32, command: &str| {
        let mut spec = spec(&agent.rootfs(), command);
        let namespace = json!({"type": "user", "path": agent_api::POD_USER_NAMESPACE});
        let maps = json!([{"containerID": 0, "hostID": host, "size": 65536}]);
        set(&mut spec, "/linux/namespaces/-", namespace);
        set(&mut spec, "/linux/uidMappings", maps.clone());
        set(&mut spec, "/linux/gidMappings", maps);
        spec
    };
    let command = "id -u; awk '{ print $2 }' /proc/self/uid_map; stat -c %u /dev; \
                   readlink /proc/self/ns/user";
    // It stays when nobody is left in it.
    let first = agent.run(&pod(300_000, command)).await;
    assert!(first.1.starts_with("0\n300000\n0\nuser:"), "{first:?}");
    assert_eq!(first, agent.run(&pod(300_000, command)).await);
    let other = agent.create(&pod(400_000, command)).await.err().unwrap().to_string();
    assert!(other.contains("id maps differ"), "{other}");
}

#[tokio::test]
async fn files_of_the_guest_are_mapped_for_user_namespaces() {
    let agent = Agent::start().await;
    let root = agent.rootfs();
    let volume = tempfile::tempdir().unwrap();
    std::fs::write(volume.path().join("file"), "").unwrap();
    std::os::unix::fs::chown(volume.path().join("file"), Some(33), Some(34)).unwrap();
    let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    for user in [false, true] {
        let mut spec = spec(&root, "stat -c %u:%g /data/file; touch /data/new && echo fine");
        let mut mount = json!({"destination": "/data", "type": "bind", "source": volume.path(),
            "options": ["rbind", "rw"]});
        mount["uidMappings"] = maps.clone();
        mount["gidMappings"] = maps.clone();
        set(&mut spec, "/mounts/-", mount);
        if user {
            std::os::unix::fs::chown(&root, Some(100_000), Some(100_000)).unwrap();
            set(&mut spec, "/linux/namespaces/-", json!({"type": "user"}));
            spec["linux"]["uidMappings"] = maps.clone();
            spec["linux"]["gidMappings"] = maps.clone();
        }
        let (_, out, error) = agent.run(&spec).await;
        // Without a user namespace the mapped owners are seen as they are.
        let (seen, error_seen) =
            if user { ("33:34\nfine\n", "") } else { ("100033:100034\n", "Value too large") };
        assert_eq!(out, seen, "{error}");
        assert!(error.contains(error_seen), "{error}");
    }
}

#[tokio::test]
async fn hooks_of_the_guest_run_in_order_and_stop_what_they_refuse() {
    let agent = Agent::start().await;
    let root = agent.rootfs();
    let mut spec = spec(&root, "cat /tmp/order");
    let hook = |path: String, word: &str, code: u8| {
        let script = format!("echo {word} >> $ROOT/tmp/order; exit {code}");
        let environment =
            if word == "start" { "ROOT=".to_owned() } else { format!("ROOT={}", root.display()) };
        json!({"path": path, "args": ["sh", "-c", script], "env": [environment]})
    };
    // Before its root is entered, a container sees the guest's files.
    let outside = root.join("bin/sh").display().to_string();
    let outside = |word, code| hook(outside.clone(), word, code);
    spec["hooks"] = json!({"createContainer": [outside("one", 0), outside("two", 0)],
        "startContainer": [hook("/bin/sh".into(), "start", 0)]});
    let (status, out, error) = agent.run(&spec).await;
    assert_eq!((status, out.as_str(), error.as_str()), (0, "one\ntwo\nstart\n", ""));
    spec["hooks"] = json!({"createContainer": [outside("x", 3)]});
    let Err(error) = agent.create(&spec).await else { panic!("created") };
    assert!(error.to_string().contains("exit status: 3"), "{error}");
    spec["hooks"] = json!({"startContainer": [hook("/bin/sh".into(), "start", 4)]});
    let container = agent.create(&spec).await.unwrap();
    let error = container.start("").await.unwrap_err().to_string();
    assert!(error.contains("exit status: 4"), "{error}");
    container.delete().await.unwrap();
}

#[tokio::test]
async fn creation_that_hangs_ends_with_its_deletion() {
    let agent = Agent::start().await;
    let root = agent.rootfs();
    let mut hanging = spec(&root, "echo runs");
    hanging["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user", "path": agent_api::POD_USER_NAMESPACE}));
    for maps in ["uidMappings", "gidMappings"] {
        hanging["linux"][maps] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    }
    hanging["linux"]["sysctl"] = json!({});
    let good = hanging.clone();
    hanging["hooks"] = json!({"createContainer":
        [{"path": root.join("bin/sleep"), "args": ["sleep", "1000"]}]});
    let ((stdin, _in), (stdout, _out), (stderr, _err)) =
        (agent.stream().await, agent.stream().await, agent.stream().await);
    let streams = Streams { stdin, stdout, stderr, ..Streams::default() };
    let request = CreateContainerRequest {
        container_id: "hanging".to_owned(),
        spec_json: serde_json::to_vec(&hanging).unwrap(),
        streams: Some(streams).into(),
        ..CreateContainerRequest::default()
    };
    let short = ttrpc::context::with_duration(Duration::from_secs(3));
    agent.containers.create(short, &request).await.unwrap_err();
    // The call is over, what it asked for is not.
    let error = agent.containers.create(context(), &request).await.unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    let named = ContainerId { container_id: "hanging".to_owned(), ..ContainerId::default() };
    let began = Instant::now();
    let error = agent.containers.delete(context(), &named).await.unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(!Path::new("/sys/fs/cgroup/pod/hanging").exists());
    // Nor does it keep the pod's user namespace from others.
    assert_eq!(agent.run(&good).await.1, "runs\n");
}

#[tokio::test]
async fn exec_has_its_own_affinity_groups_and_limits() {
    let agent = Agent::start().await;
    let container = agent.create(&spec(&agent.rootfs(), "exec sleep 100")).await.unwrap();
    container.start("").await.unwrap();
    let mut process = shell("grep Cpus_allowed_list /proc/self/status; id -G; umask; ulimit -n");
    process["execCPUAffinity"] = json!({"initial": "0-1", "final": "0"});
    process["user"] = json!({"uid": 1, "gid": 2, "additionalGids": [3], "umask": 0o077});
    process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 64, "soft": 32}]);
    let (status, out) = container.run_exec(&process).await;
    assert_eq!((status, out.as_str()), (0, "Cpus_allowed_list:\t0\n2 3\n0077\n32\n"));
    process["execCPUAffinity"] = json!({"final": "7-3"});
    let error = container.exec("bad", &process).await.unwrap_err().to_string();
    assert!(error.contains("execCPUAffinity"), "{error}");
    container.signal("", 9, true).await.unwrap();
    container.wait("").await;
    container.delete().await.unwrap();
}

#[tokio::test]
async fn apparmor_profile_is_loaded_and_enforced() {
    let policy = include_bytes!("policies/deny-tmp.policy");
    let digits: String = policy.iter().map(|byte| format!("{byte:02x}")).collect();
    let agent = Agent::start().await;
    let command = "cat /proc/self/attr/current; touch /tmp/x 2>&1; touch /run/y && echo fine";
    let mut confined = spec(&agent.rootfs(), command);
    confined["process"]["apparmorProfile"] = json!("cuddy-test-deny-tmp");
    confined["cuddyApparmorPolicy"] = json!(digits);
    for no_new_privileges in [true, false] {
        confined["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let (_, out, error) = agent.run(&confined).await;
        let expected = "cuddy-test-deny-tmp (enforce)\ntouch: /tmp/x: Permission denied\nfine\n";
        assert_eq!((out.as_str(), error.as_str()), (expected, ""));
    }
    confined["process"]["args"] = json!(["/bin/sleep", "100"]);
    let container = agent.create(&confined).await.unwrap();
    container.start("").await.unwrap();
    let mut process = shell("cat /proc/self/attr/current");
    process["apparmorProfile"] = json!("cuddy-test-deny-tmp");
    assert_eq!(container.run_exec(&process).await.1, "cuddy-test-deny-tmp (enforce)\n");
    container.signal("", 9, true).await.unwrap();
    container.wait("").await;
    container.delete().await.unwrap();
    let mut unknown = spec(&agent.rootfs(), "true");
    unknown["process"]["apparmorProfile"] = json!("cuddy-test-unknown");
    let Err(error) = agent.create(&unknown).await else { panic!("created") };
    assert!(error.to_string().contains("no such profile is loaded"), "{error}");
    unknown["process"]["apparmorProfile"] = json!("unconfined");
    assert_eq!(agent.run(&unknown).await.0, 0);
}

#[tokio::test]
async fn what_can_not_be_is_refused_by_name() {
    let agent = Agent::start().await;
    let good = spec(&agent.rootfs(), "true");
    let twice = || {
        json!([{"type": "RLIMIT_CORE", "hard": 1, "soft": 1},
        {"type": "RLIMIT_CORE", "hard": 2, "soft": 2}])
    };
    for (pointer, value, message) in [
        ("/process/rlimits", twice(), "RLIMIT_CORE is there twice"),
        ("/process/scheduler", json!({"policy": "SCHED_X"}), "SCHED_X"),
        ("/process/scheduler", json!({"policy": "SCHED_FIFO", "priority": 1000}), "scheduler"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_X"}), "IOPRIO_CLASS_X"),
        ("/process/oomScoreAdj", json!(2000), "oomScoreAdj 2000"),
        ("/process/selinuxLabel", json!("a:b:c"), "SELinux"),
        ("/process/args", json!([]), "no program"),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]}), "\\\"X\\\""),
        ("/linux/rootfsPropagation", json!("sideways"), "sideways"),
        ("/linux/sysctl", json!({"net.no.such": "1"}), "net.no.such"),
        ("/linux/sysctl", json!({"../x": "1"}), "bad name"),
        ("/linux/netDevices", json!({"eth9": {}}), "eth9"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "z"}]), "unknown type"),
        ("/linux/resources", json!({"unified": {"memory.nothing": "1"}}), "memory.nothing"),
        ("/linux/resources", json!({"unified": {"memory.max": "much"}}), "memory.max"),
        ("/linux/resources", json!({"unified": {"cgroup.kill": "1"}}), "cgroup.kill"),
        ("/linux/resources", json!({"devices": [{"type": "z"}]}), "unknown type"),
        ("/linux/timeOffsets", json!({"boottime": {"secs": 1}}), "timeOffsets"),
        ("/linux/gidMappings", json!([{"containerID": 0, "hostID": 7, "size": 1}]), "gidMappings"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["F"]}), "flag"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NO"}), "SCMP_ACT_NO"),
        ("/linux/uidMappings", json!([]), ""),
    ] {
        let mut bad = good.clone();
        set(&mut bad, pointer, value);
        match agent.create(&bad).await {
            Ok(container) if message.is_empty() => container.delete().await.unwrap(),
            Ok(_) => panic!("{message}: created"),
            Err(error) => assert!(error.to_string().contains(message), "{message}: {error}"),
        }
    }
    let mut unmapped = good.clone();
    set(&mut unmapped, "/linux/namespaces/-", json!({"type": "user"}));
    let Err(error) = agent.create(&unmapped).await else { panic!("created") };
    assert!(error.to_string().contains("uidMappings"), "{error}");
}
