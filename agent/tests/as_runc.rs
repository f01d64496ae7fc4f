//! Where runc has an answer of its own that people count on: working directories, HOME, what an
//! exec joins, kills for want of memory. They need root and a static busybox; `make e2e` runs them
//! in the lab.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "support/agent.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::time::Duration;

use serde_json::json;
use support::{Agent, Container, shell, spec};
use tokio::io::AsyncReadExt;

async fn end(container: Container<'_>) {
    container.signal("", 9, true).await.unwrap();
    container.wait("").await;
    container.delete().await.unwrap();
}

/// Waits until a container has printed `word`.
async fn said(container: &mut Container<'_>, word: &str) {
    let mut text = Vec::new();
    let waiting = async {
        while !String::from_utf8_lossy(&text).contains(word) {
            let count = container.stdout.read_buf(&mut text).await.unwrap();
            assert_ne!(count, 0, "only {:?}", String::from_utf8_lossy(&text));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("its word");
}

#[tokio::test]
async fn only_a_container_has_its_missing_directory_made() {
    let agent = Agent::start().await;
    let mut spec = spec(&agent.rootfs(), "pwd; exec sleep 100");
    spec["process"]["cwd"] = json!("/srv/new/deep");
    let mut container = agent.create(&spec).await.unwrap();
    container.start("").await.unwrap();
    said(&mut container, "/srv/new/deep\n").await;
    let mut process = shell("pwd");
    process["cwd"] = json!("/not/there");
    let error = container.exec("missing", &process).await.unwrap_err().to_string();
    assert!(error.contains("chdir to cwd"), "{error}");
    assert!(error.contains("no such file or directory"), "{error}");
    assert_eq!(container.run_exec(&shell("ls -d /not || true")).await.1, "");
    end(container).await;
}

#[tokio::test]
async fn directory_outside_of_the_root_is_refused() {
    let agent = Agent::start().await;
    let mut spec = spec(&agent.rootfs(), "exec sleep 100");
    // In the agent's own pid namespace this process is to be seen, which is in another root.
    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    let root = format!("/proc/{}/root", std::process::id());
    let refusal = "outside of container mount namespace root";
    let unmade = tempfile::tempdir().unwrap().path().join("deep");
    let missing = format!("{root}{}", unmade.display());
    for (directory, reason) in [(&root, refusal), (&missing, "no such file or directory")] {
        let mut outside = spec.clone();
        outside["process"]["cwd"] = json!(directory);
        let Err(error) = agent.create(&outside).await else { panic!("{directory}") };
        let error = error.to_string();
        assert!(error.contains(reason), "{directory}: {error}");
    }
    assert!(!unmade.exists(), "made in another root");
    let container = agent.create(&spec).await.unwrap();
    container.start("").await.unwrap();
    let mut process = shell("pwd");
    process["cwd"] = json!(root);
    let error = container.exec("outside", &process).await.unwrap_err().to_string();
    assert!(error.contains(refusal), "{error}");
    end(container).await;
}

#[tokio::test]
async fn home_is_found_whatever_the_encoding() {
    let agent = Agent::start().await;
    let root = agent.rootfs();
    let passwd = b"root:x:0:0:root:/root:/bin/sh\njose:x:7:7:Jos\xe9 \xff:/home/jose:/bin/sh\n";
    std::fs::write(root.join("etc/passwd"), passwd).unwrap();
    let mut spec = spec(&root, "echo $HOME");
    for (uid, home) in [(7, "/home/jose\n"), (0, "/root\n"), (8, "/\n")] {
        spec["process"]["user"] = json!({"uid": uid, "gid": uid});
        assert_eq!(agent.run(&spec).await.1, home, "{uid}");
    }
    // What is no file is not waited for.
    std::fs::remove_file(root.join("etc/passwd")).unwrap();
    let pipe = rustix::fs::FileType::Fifo;
    let (mode, none) = (rustix::fs::Mode::from_raw_mode(0o666), 0);
    rustix::fs::mknodat(rustix::fs::CWD, root.join("etc/passwd"), pipe, mode, none).unwrap();
    assert_eq!(agent.run(&spec).await.1, "/\n");
}

#[tokio::test]
async fn exec_joins_the_cgroup_of_the_first_process() {
    let agent = Agent::start().await;
    // The kernel lists two cgroups in either order: each is once the one to be found.
    for (own, other) in [("aa", "zz"), ("zz", "aa")] {
        let command = format!(
            "cd /sys/fs/cgroup; mkdir aa zz; \
             sh -c 'echo $$ > {other}/cgroup.procs; exec sleep 100' & \
             echo $$ > {own}/cgroup.procs; \
             until echo +pids > cgroup.subtree_control; do sleep 0.1; done 2>/dev/null; \
             echo ready; exec sleep 100"
        );
        let mut spec = spec(&agent.rootfs(), &command);
        let mounts = spec["mounts"].as_array_mut().unwrap();
        let cgroup = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").unwrap();
        cgroup["options"] = json!(["rw", "nosuid", "noexec", "nodev"]);
        let mut container = agent.create(&spec).await.unwrap();
        container.start("").await.unwrap();
        said(&mut container, "ready").await;
        let (_, out) = container.run_exec(&shell("grep ^0: /proc/self/cgroup")).await;
        assert_eq!(out, format!("0::/{own}\n"));
        end(container).await;
    }
}

#[tokio::test]
async fn exec_shares_the_session_keyring() {
    let agent = Agent::start().await;
    for user in [false, true] {
        let mut spec = spec(&agent.rootfs(), "exec sleep 100");
        spec["linux"]["maskedPaths"] = json!([]);
        if user {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": "user"}));
            let maps = json!([{"containerID": 0, "hostID": 0, "size": 65_536}]);
            spec["linux"]["uidMappings"] = maps.clone();
            spec["linux"]["gidMappings"] = maps;
        }
        let container = agent.create(&spec).await.unwrap();
        container.start("").await.unwrap();
        let command = format!("grep -c ' _ses.{}: ' /proc/keys", container.id);
        // That of the first process, and no other one.
        assert_eq!(container.run_exec(&shell(&command)).await.1, "1\n", "user namespace: {user}");
        // Each process that has it is one more that uses it.
        let users = format!("grep ' _ses.{}: ' /proc/keys", container.id);
        let command = format!(
            "users() {{ {users} | while read serial flags count rest; do echo $count; done; }}; \
             before=$(users); for n in 1 2 3 4 5 6 7 8; do sleep 100 & done; now=$(users); \
             kill $(jobs -p); [ $((now - before)) -ge 5 ] && echo theirs || echo $before $now"
        );
        assert_eq!(container.run_exec(&shell(&command)).await.1, "theirs\n", "{user}");
        end(container).await;
    }
}

#[tokio::test]
async fn limit_that_is_too_low_to_start_is_told() {
    let agent = Agent::start().await;
    let mut spec = spec(&agent.rootfs(), "true");
    spec["linux"]["resources"] = json!({"memory": {"limit": 4096}});
    let Err(error) = agent.create(&spec).await else { panic!("created") };
    let error = error.to_string();
    assert!(error.contains("out of memory") && error.contains("4096 bytes"), "{error}");
    assert!(error.contains("RESOURCE_EXHAUSTED"), "{error}");
}

#[tokio::test]
async fn hook_of_one_container_does_not_keep_the_pods_users_from_others() {
    let agent = Agent::start().await;
    let root = agent.rootfs();
    let pod = |command: &str| {
        let mut spec = spec(&root, command);
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user", "path": agent_api::POD_USER_NAMESPACE}));
        let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        spec["linux"]["uidMappings"] = maps.clone();
        spec["linux"]["gidMappings"] = maps;
        spec
    };
    let go = root.join("tmp/go");
    let mut slow = pod("echo slow");
    let script = format!("touch {0}.begun; until test -e {0}; do sleep 0.1; done", go.display());
    let environment = format!("PATH={}", root.join("bin").display());
    slow["hooks"] = json!({"createContainer": [{"path": root.join("bin/sh"),
        "args": ["sh", "-c", script], "env": [environment]}]});
    std::os::unix::fs::chown(root.join("tmp"), Some(100_000), Some(100_000)).unwrap();
    let both = async {
        tokio::join!(agent.run(&slow), async {
            let begun = root.join("tmp/go.begun");
            while !begun.exists() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let quick = agent.run(&pod("echo quick")).await;
            std::fs::write(&go, "").unwrap();
            quick
        })
    };
    let both = tokio::time::timeout(Duration::from_secs(40), both).await;
    let (slow, quick) = both.expect("one waits for the other's hook");
    assert_eq!((quick.1.as_str(), slow.1.as_str()), ("quick\n", "slow\n"), "{quick:?} {slow:?}");
}

#[tokio::test]
async fn clocks_may_be_set_in_a_user_namespace() {
    let agent = Agent::start().await;
    let mut spec = spec(&agent.rootfs(), "tr -s ' ' </proc/self/timens_offsets");
    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.extend([json!({"type": "user"}), json!({"type": "time"})]);
    let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    spec["linux"]["uidMappings"] = maps.clone();
    spec["linux"]["gidMappings"] = maps;
    spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 7, "nanosecs": 5}});
    let (_, out, error) = agent.run(&spec).await;
    assert_eq!(out, "monotonic 0 0\nboottime 7 5\n", "{error}");
}

#[tokio::test]
async fn who_may_make_loop_devices_finds_their_nodes() {
    let agent = Agent::start().await;
    let command = "for n in 0 7; do stat -c '%F %t,%T' /dev/loop$n; done; ls /dev | grep -c loop";
    let mut spec = spec(&agent.rootfs(), command);
    let control = json!({"path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237});
    spec["linux"]["devices"] = json!([control]);
    let (_, out, error) = agent.run(&spec).await;
    let both = "block special file 7,0\nblock special file 7,7\n9\n";
    assert_eq!(out, both, "{error}");
}
