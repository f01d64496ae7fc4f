//! Users by the names of an image, whatever the image has in the files' place. They need root and a
//! static busybox; `make e2e` runs them in the lab.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "support/agent.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use agent_api::container::CreateContainerRequest;
use agent_api::types::{Streams, User};
use serde_json::{Value, json};
use support::{Agent, context, shell, spec};

/// A container that stays, of this user.
fn of_user(root: &Path, user: &Value, merge: bool) -> Value {
    let mut spec = spec(root, "exec sleep 1000");
    spec["process"]["user"] = user.clone();
    if merge {
        spec["annotations"] = json!({"dev.cuddy.groups": "merge"});
    }
    spec
}

/// A root whose user `web` is in the group `logs`.
fn root(agent: &Agent) -> std::path::PathBuf {
    let root = agent.rootfs();
    let group = "root:x:0:\nlogs:x:50:web,root\nweb:x:33:web\n";
    std::fs::write(root.join("etc/group"), group).unwrap();
    root
}

/// Who the agent says that a container's process is.
async fn told(agent: &Agent, id: &str, spec: &Value) -> User {
    let request = CreateContainerRequest {
        container_id: id.to_owned(),
        spec_json: serde_json::to_vec(spec).unwrap(),
        streams: Some(Streams::default()).into(),
        ..CreateContainerRequest::default()
    };
    agent.containers.create(context(), &request).await.unwrap().user.unwrap()
}

const WHO: &str = "echo $(id -u) $(id -g) $(id -G) $HOME";

#[tokio::test]
async fn processes_are_who_the_image_says() {
    let agent = Agent::start().await;
    let nobody =
        |name: &str| json!({"uid": 65534, "gid": 65534, "username": name, "additionalGids": [7]});
    for (name, merge, prints) in [
        ("web", true, "33 33 33 7 50 /home/web\n"),
        ("web", false, "33 33 33 7 /home/web\n"),
        ("web:logs", false, "33 50 50 7 /home/web\n"),
        ("33:9", true, "33 9 9 7 50 /home/web\n"),
        ("4", true, "4 0 0 7 /\n"),
    ] {
        let mut spec = of_user(&root(&agent), &nobody(name), merge);
        spec["process"]["args"] = json!(["/bin/sh", "-c", WHO]);
        assert_eq!(agent.run(&spec).await, (0, prints.to_owned(), String::new()), "{name}");
    }
}

#[tokio::test]
async fn ids_come_back_and_exec_is_looked_up_again() {
    let agent = Agent::start().await;
    let root = root(&agent);
    let web = json!({"username": "web", "additionalGids": [7]});
    let user = told(&agent, "told", &of_user(&root, &web, true)).await;
    assert_eq!((user.uid, user.gid, user.additional_gids), (33, 33, vec![7, 33, 50]));
    let numbers = json!({"uid": 5, "gid": 6, "additionalGids": [9, 8]});
    let user = told(&agent, "numbers", &of_user(&root, &numbers, true)).await;
    assert_eq!((user.uid, user.gid, user.additional_gids), (5, 6, vec![9, 8]));

    let container = agent.create(&of_user(&root, &web, true)).await.unwrap();
    container.start("").await.unwrap();
    let exec = |user: &Value| {
        let mut process = shell(WHO);
        process["user"] = user.clone();
        process
    };
    let (_, out) = container.run_exec(&exec(&web)).await;
    assert_eq!(out, "33 33 33 7 50 /home/web\n");
    let (_, out) = container.run_exec(&exec(&numbers)).await;
    assert_eq!(out, "5 6 6 8 9 /\n", "numbers are who they are");
    let ghost = container.exec("ghost", &exec(&json!({"username": "ghost"}))).await;
    let error = ghost.unwrap_err().to_string();
    assert!(error.contains(r#"user \"ghost\": not in /etc/passwd of the image"#), "{error}");
    // It is the container's root that counts, as it is by now.
    std::fs::write(root.join("etc/passwd"), "ghost:x:44:45::/g:/bin/sh\n").unwrap();
    let (_, out) = container.run_exec(&exec(&json!({"username": "ghost"}))).await;
    assert_eq!(out, "44 45 45 /g\n");
    container.signal("", 9, true).await.unwrap();
    container.wait("").await;
    container.delete().await.unwrap();
}

/// What a hostile image has in the place of `/etc/passwd`, and what is said of it.
type Trap = (fn(&Path), &'static str);

const TRAPS: [Trap; 8] = [
    (
        |path| symlink("/proc/1/root/etc/passwd", path).unwrap(),
        "reading /etc/passwd of the image: ",
    ),
    (|path| symlink("/proc/self/fd/0", path).unwrap(), "reading /etc/passwd of the image: "),
    (|path| symlink("passwd", path).unwrap(), "reading /etc/passwd of the image: "),
    (|path| symlink("../../../../../../no/such", path).unwrap(), "not in /etc/passwd of the image"),
    (|path| node(path, &["p"]), "/etc/passwd of the image is no regular file"),
    (|path| node(path, &["c", "1", "5"]), "/etc/passwd of the image is no regular file"),
    (|path| std::fs::create_dir(path).unwrap(), "/etc/passwd of the image is no regular file"),
    (
        |path| std::fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
        "/etc/passwd of the image is over 8388608 bytes",
    ),
];

fn node(path: &Path, kind: &[&str]) {
    let made = Command::new("mknod").arg(path).args(kind).status().unwrap();
    assert!(made.success());
}

#[tokio::test]
async fn image_that_lies_in_wait_fails_its_own_container_at_once() {
    let agent = Agent::start().await;
    let began = std::time::Instant::now();
    for (make, reason) in TRAPS {
        let root = root(&agent);
        std::fs::remove_file(root.join("etc/passwd")).unwrap();
        make(&root.join("etc/passwd"));
        let created = agent.create(&of_user(&root, &json!({"username": "web"}), true)).await;
        let Err(error) = created else { panic!("created: {reason}") };
        let text = error.to_string();
        assert!(text.contains(r#"user \"web\": "#) && text.contains(reason), "{text}");
    }
    assert!(began.elapsed().as_secs() < 30, "nothing waited");
    // By number, without the image's groups, nobody has to look.
    let root = root(&agent);
    std::fs::remove_file(root.join("etc/passwd")).unwrap();
    node(&root.join("etc/passwd"), &["p"]);
    let mut spec = of_user(&root, &json!({"uid": 3, "gid": 4}), false);
    // Without `id`, which would wait for the pipe.
    let command = "awk '/^[UG]id:/ { print $2 }' /proc/self/status; echo $HOME";
    spec["process"]["args"] = json!(["/bin/sh", "-c", command]);
    assert_eq!(agent.run(&spec).await.1, "3\n4\n/\n");
}

#[tokio::test]
async fn cgroup_belongs_to_the_user_that_was_looked_up() {
    let agent = Agent::start().await;
    let mut spec = of_user(&root(&agent), &json!({"uid": 65534, "username": "web"}), false);
    for mount in spec["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["rw", "nosuid", "noexec", "nodev"]);
        }
    }
    let command = "stat -c %u /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs";
    spec["process"]["args"] = json!(["/bin/sh", "-c", command]);
    assert_eq!(agent.run(&spec).await, (0, "33\n33\n".to_owned(), String::new()));
}
