//! Containers made by a real agent with real namespaces. They need root and a static busybox;
//! `make e2e` runs them in the lab.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "support/agent.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod support;

use serde_json::json;
use support::{Agent, shell, spec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn output_and_exit_code_arrive() {
    let agent = Agent::start().await;
    let (status, out, error) =
        agent.run(&spec(&agent.rootfs(), "echo out; echo error >&2; exit 7")).await;
    assert_eq!((status, out.as_str(), error.as_str()), (7, "out\n", "error\n"));
}

#[tokio::test]
async fn a_container_sees_itself_only() {
    let agent = Agent::start().await;
    let command = "echo $$; hostname; ls /proc | grep -c '^[0-9]'; grep ^0: /proc/self/cgroup; \
                   grep -c 00000000000000000000000000000001 /proc/net/if_inet6; ls -d /dev/* | tr '\\n' ' '; ls /sys/class/net; readlink /dev/stdout";
    let (status, out, error) = agent.run(&spec(&agent.rootfs(), command)).await;
    assert_eq!((status, error.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["1", "box"]);
    assert_eq!(lines[3..5], ["0::/", "1"], "loopback is up");
    assert!(out.contains("/dev/fd /dev/full /dev/mqueue /dev/null /dev/ptmx /dev/pts"), "{out}");
    assert!(out.contains("/dev/zero lo\n/proc/self/fd/1\n"), "{out}");
}

#[tokio::test]
async fn a_missing_program_is_an_error_of_create() {
    let agent = Agent::start().await;
    let mut spec = spec(&agent.rootfs(), "");
    spec["process"]["args"] = json!(["xyz"]);
    let began = std::time::Instant::now();
    let Err(error) = agent.create(&spec).await else { panic!("created") };
    assert!(began.elapsed().as_secs() < 5);
    let text = error.to_string();
    assert!(text.contains(r#"exec: \"xyz\": executable file not found in $PATH"#), "{text}");
    spec["process"]["args"] = json!(["/no/x"]);
    let Err(error) = agent.create(&spec).await else { panic!("created") };
    assert!(error.to_string().contains("stat /no/x: no such file or directory"), "{error}");
}

#[tokio::test]
async fn the_end_of_input_reaches_the_process() {
    let agent = Agent::start().await;
    let mut container = agent.create(&spec(&agent.rootfs(), "cat; echo end")).await.unwrap();
    container.start("").await.unwrap();
    let mut stdin = container.stdin.take().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    assert_eq!(container.output().await.0, "hello\nend\n");
    assert_eq!(container.wait("").await.exit_status, 0);
    container.delete().await.unwrap();
}

#[tokio::test]
async fn a_hundred_megabytes_come_through() {
    let agent = Agent::start().await;
    let command = "dd if=/dev/zero bs=1M count=100 2>/dev/null | tr '\\0' x";
    let (status, out, _) = agent.run(&spec(&agent.rootfs(), command)).await;
    assert_eq!((status, out.len()), (0, 100 << 20));
    assert!(out.bytes().all(|byte| byte == b'x'));
}

#[tokio::test]
async fn a_signal_ends_a_process_with_its_number() {
    let agent = Agent::start().await;
    let container = agent.create(&spec(&agent.rootfs(), "exec sleep 100")).await.unwrap();
    container.start("").await.unwrap();
    assert!(container.delete().await.is_err(), "it runs");
    container.signal("", 0, false).await.unwrap();
    // Init of a pid namespace ignores signals without a handler, but not this one.
    container.signal("", 9, false).await.unwrap();
    assert_eq!(container.wait("").await.exit_status, 137);
    let gone = container.signal("", 9, false).await.unwrap_err();
    assert!(gone.to_string().contains("NOT_FOUND"), "{gone}");
    container.delete().await.unwrap();
    assert!(container.delete().await.unwrap_err().to_string().contains("NOT_FOUND"));
}

#[tokio::test]
async fn an_exec_joins_the_container() {
    let agent = Agent::start().await;
    let container =
        agent.create(&spec(&agent.rootfs(), "touch /tmp/here; exec sleep 100")).await.unwrap();
    container.start("").await.unwrap();
    let command = "while ! test -e /tmp/here; do :; done; hostname; cat /proc/1/comm; \
                   grep ^0: /proc/self/cgroup; exit 3";
    let (status, out) = container.run_exec(&shell(command)).await;
    assert_eq!((status, out.as_str()), (3, "box\nsleep\n0::/\n"));
    let mut missing = shell("");
    missing["args"] = json!(["nope"]);
    let error = container.exec("missing", &missing).await.unwrap_err().to_string();
    assert!(error.contains("executable file not found in $PATH"), "{error}");
    assert_eq!(container.wait("missing").await.exit_status, 127);
    container.signal("", 9, true).await.unwrap();
    assert_eq!(container.wait("").await.exit_status, 137);
    let stopped = container.exec("late", &shell("true")).await.unwrap_err().to_string();
    assert!(stopped.contains("FAILED_PRECONDITION"), "{stopped}");
    container.delete().await.unwrap();
}

#[tokio::test]
async fn an_exec_that_is_killed_before_it_exists_never_runs() {
    let agent = Agent::start().await;
    let container = agent.create(&spec(&agent.rootfs(), "exec sleep 100")).await.unwrap();
    container.start("").await.unwrap();
    let mut stream = container.add_exec("late", &shell("echo ran")).await.unwrap();
    // There is no process yet that it could reach.
    assert!(container.signal("late", 9, false).await.is_err());
    let error = container.start("late").await.unwrap_err().to_string();
    assert!(error.contains("killed before its start"), "{error}");
    container.wait("late").await;
    let mut out = String::new();
    stream.read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "");
    container.signal("", 9, false).await.unwrap();
    container.wait("").await;
    container.delete().await.unwrap();
}

#[tokio::test]
async fn an_exec_with_background_children_ends() {
    let agent = Agent::start().await;
    let container = agent.create(&spec(&agent.rootfs(), "exec sleep 100")).await.unwrap();
    container.start("").await.unwrap();
    let began = std::time::Instant::now();
    let (status, out) = container.run_exec(&shell("sleep 50 & echo done")).await;
    assert_eq!((status, out.as_str()), (0, "done\n"));
    assert!(began.elapsed().as_secs() < 20);
    container.signal("", 9, false).await.unwrap();
    container.wait("").await;
    container.delete().await.unwrap();
}

#[tokio::test]
async fn a_terminal_is_a_terminal() {
    let agent = Agent::start().await;
    let mut spec = spec(&agent.rootfs(), "tty; stty size; test -c /dev/console && cat");
    spec["process"]["terminal"] = json!(true);
    spec["process"]["consoleSize"] = json!({"width": 91, "height": 17});
    let mut container = agent.create(&spec).await.unwrap();
    container.start("").await.unwrap();
    let mut stdin = container.stdin.take().unwrap();
    stdin.write_all(b"typed\n\x04").await.unwrap();
    let (out, _) = container.output().await;
    assert!(out.contains("/dev/pts/0\r\n") && out.contains("17 91\r\n"), "{out:?}");
    assert_eq!(out.matches("typed\r\n").count(), 2, "echo and answer: {out:?}");
    assert_eq!(container.wait("").await.exit_status, 0);
    container.delete().await.unwrap();
}

#[tokio::test]
async fn users_groups_and_capabilities_are_as_stated() {
    let agent = Agent::start().await;
    let command = "id -u; id -g; id -G; echo $HOME; umask; \
                   grep -E 'Cap|NoNewPrivs' /proc/self/status; cat /proc/self/oom_score_adj; \
                   ulimit -n; echo again > /dev/stdout";
    let mut spec = spec(&agent.rootfs(), command);
    spec["process"]["user"] =
        json!({"uid": 33, "gid": 34, "umask": 0o077, "additionalGids": [44, 55]});
    spec["process"]["oomScoreAdj"] = json!(321);
    spec["process"]["capabilities"] = json!({
        "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"], "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"]
    });
    let (status, out, error) = agent.run(&spec).await;
    assert_eq!((status, error.as_str()), (0, ""));
    let expected = "33\n34\n34 44 55\n/home/web\n0077\nCapInh:\t0000000000000020\n\
                    CapPrm:\t0000000000000020\nCapEff:\t0000000000000020\n\
                    CapBnd:\t0000000000000021\nCapAmb:\t0000000000000020\nNoNewPrivs:\t1\n321\n\
                    1024\nagain\n";
    assert_eq!(out, expected);
}

#[tokio::test]
async fn mounts_are_read_only_where_stated() {
    let agent = Agent::start().await;
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("file"), "content\n").unwrap();
    let command = "cat /deep/data/file; touch /deep/data/x 2>&1; touch /y 2>&1; \
                   cat /proc/timer_list | wc -c; ls /sys/firmware; \
                   cat /etc/one; (echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo ro; echo ok > /run/w; echo ok > /dev/shm/w; cat /run/w";
    let mut spec = spec(&agent.rootfs(), command);
    spec["root"]["readonly"] = json!(true);
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/deep/data", "type": "bind", "source": source.path(),
        "options": ["rbind", "rro", "nosuid", "rprivate"]}));
    mounts.push(json!({"destination": "/etc/one", "type": "bind",
        "source": source.path().join("file"), "options": ["bind", "ro"]}));
    let (status, out, error) = agent.run(&spec).await;
    assert_eq!((status, error.as_str()), (0, ""));
    let read_only = "Read-only file system";
    let expected = format!(
        "content\ntouch: /deep/data/x: {read_only}\ntouch: /y: {read_only}\n\
         0\ncontent\nro\nok\n"
    );
    assert_eq!(out, expected);
}

#[tokio::test]
async fn seccomp_denies_what_the_profile_denies() {
    let agent = Agent::start().await;
    let command = "mkdir /tmp/a 2>&1; touch /tmp/b && echo fine; grep Seccomp: /proc/self/status";
    let mut spec = spec(&agent.rootfs(), command);
    spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]
    });
    for no_new_privileges in [true, false] {
        spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let (status, out, _) = agent.run(&spec).await;
        let expected =
            "mkdir: can't create directory '/tmp/a': No space left on device\nfine\nSeccomp:\t2\n";
        assert_eq!((status, out.as_str()), (0, expected));
    }
}

#[tokio::test]
async fn a_user_namespace_maps_root_to_nobody_special() {
    let agent = Agent::start().await;
    let root = agent.rootfs();
    std::os::unix::fs::chown(&root, Some(100_000), Some(100_000)).unwrap();
    let command = "id -u; cat /proc/self/uid_map | tr -s ' '; echo x > /dev/null && echo null";
    let mut spec = spec(&root, command);
    spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    spec["linux"]["uidMappings"] = map.clone();
    spec["linux"]["gidMappings"] = map;
    let (status, out, error) = agent.run(&spec).await;
    assert_eq!((status, out.as_str(), error.as_str()), (0, "0\n 0 100000 65536\nnull\n", ""));
}

#[tokio::test]
async fn sysctls_and_hooks_take_effect() {
    let agent = Agent::start().await;
    let root = agent.rootfs();
    let mut spec = spec(&root, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /tmp/state");
    spec["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "81"});
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "grep -o '\"status\":\"[a-z]*\"' > /tmp/state"],
        "env": ["PATH=/bin"], "timeout": 20});
    spec["hooks"] = json!({"startContainer": [hook]});
    let (status, out, error) = agent.run(&spec).await;
    assert_eq!((status, out.as_str(), error.as_str()), (0, "81\n\"status\":\"created\"\n", ""));
}

#[tokio::test]
async fn bad_specifications_are_refused_and_leave_nothing() {
    let agent = Agent::start().await;
    let good = spec(&agent.rootfs(), "true");
    let mut cases = Vec::new();
    for (pointer, value, message) in [
        ("/root/path", json!("/no/such/root"), "root.path"),
        ("/process/cwd", json!("relative"), "cwd"),
        ("/process/rlimits", json!([{"type": "RLIMIT_X", "hard": 1, "soft": 1}]), "RLIMIT_X"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "NOTIFY"),
        ("/process/apparmorProfile", json!("cri-containerd"), "apparmorProfile"),
        ("/linux/resources", json!({"memory": {"limit": 100, "swap": 50}}), "below memory limit"),
        ("/process/user/umask", json!(0o1777), "umask"),
    ] {
        let mut bad = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[name] = value;
        cases.push((bad, message));
    }
    for (bad, message) in cases {
        let Err(error) = agent.create(&bad).await else { panic!("{message}: created") };
        let text = error.to_string();
        assert!(text.contains(message) && text.contains("INVALID_ARGUMENT"), "{text}");
    }
    let (status, _, _) = agent.run(&good).await;
    assert_eq!(status, 0);
}

#[tokio::test]
async fn pause_stops_and_resume_continues() {
    let agent = Agent::start().await;
    let mut container =
        agent.create(&spec(&agent.rootfs(), "while read line; do echo $line; done")).await.unwrap();
    container.start("").await.unwrap();
    agent.containers.pause(support::context(), &container.message()).await.unwrap();
    let mut stdin = container.stdin.take().unwrap();
    stdin.write_all(b"x\n").await.unwrap();
    let mut byte = [0; 8];
    let early = tokio::time::timeout(
        std::time::Duration::from_millis(300),
        container.stdout.read(&mut byte),
    );
    assert!(early.await.is_err(), "it is frozen");
    agent.containers.resume(support::context(), &container.message()).await.unwrap();
    drop(stdin);
    assert_eq!(container.output().await.0, "x\n");
    container.wait("").await;
    container.delete().await.unwrap();
}
