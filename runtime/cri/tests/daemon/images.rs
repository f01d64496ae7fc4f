//! The process that brings images: what it may do, its end with the daemon's, and the daemon's memory.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use harness::cri::api;
use harness::eventually;

use crate::node::{Node, image};

/// Lines of a process' status in /proc.
fn status(process: &Path, key: &str) -> String {
    // Processes come and go.
    let text = fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim().to_owned()
}

/// What the daemon has started and what goes on.
fn children(node: &Node) -> Vec<PathBuf> {
    let daemon = node.pid().to_string();
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    all.filter(|process| status(process, "PPid:") == daemon).collect()
}

#[test]
fn process_that_pulls_has_no_rights_and_ends_with_the_daemon() {
    let mut node = Node::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = node.path("certs.d/slow.test");
    fs::create_dir(&hosts).unwrap();
    let text = format!("server = \"http://{}\"", server.local_addr().unwrap());
    fs::write(hosts.join("hosts.toml"), text).unwrap();
    let cri = node.cri().clone();
    let pull = std::thread::spawn(move || {
        let auth = api::AuthConfig {
            username: "user".to_owned(),
            password: "hunter2".to_owned(),
            ..Default::default()
        };
        let (image, auth) = (Some(image("slow.test/a:b")), Some(auth));
        let request = api::PullImageRequest { image, auth, ..Default::default() };
        cri.wait(cri.image_service().pull_image(request))
    });
    // It asks, and nobody answers.
    let _asked = server.accept().unwrap();
    let workers = children(&node);
    let [worker] = workers.as_slice() else { panic!("{workers:?}") };
    let none = "0000000000000000";
    for (key, value) in [
        ("CapInh:", none),
        ("CapPrm:", none),
        ("CapEff:", none),
        ("CapBnd:", none),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
        ("Groups:", ""),
    ] {
        assert_eq!(status(worker, key), value, "{key}");
    }
    for key in ["Uid:", "Gid:"] {
        assert!(status(worker, key).split_whitespace().all(|id| id != "0"), "{key}");
    }
    assert_eq!(
        fs::read_dir(worker.join("root")).unwrap().count(),
        0,
        "nothing of the host is left"
    );
    let called = fs::read(worker.join("cmdline")).unwrap();
    assert!(called.starts_with(b"cuddyd-images\0"), "{}", called.escape_ascii());
    for told in ["cmdline", "environ"] {
        let text = fs::read(worker.join(told)).unwrap();
        assert!(!text.windows(7).any(|window| window == b"hunter2"), "{told}");
    }
    // It has its socket and its network, and no file of the host's.
    let files = fs::read_dir(worker.join("fd")).unwrap().map(|file| file.unwrap().path());
    for target in files.map(|file| fs::read_link(file).unwrap()) {
        let known = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/dev/urandom"];
        assert!(known.iter().any(|kind| target.to_string_lossy().starts_with(kind)), "{target:?}");
    }
    node.kill();
    eventually("the process that pulls is gone", || !worker.exists());
    pull.join().unwrap().unwrap_err();
    node.start();
    node.pull();
    let staging = fs::read_dir(node.path("root/images/staging")).unwrap();
    assert_eq!(staging.count(), 0);
}

/// What a process takes of the node's memory without pages of its program, in KiB.
fn memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn memory_of_the_daemon_is_back_after_pulls() {
    let node = Node::new();
    let before = memory(node.pid());
    for tag in ["large", "volume", "latest"] {
        node.pull_tag(tag);
    }
    eventually("the processes that pulled are gone", || children(&node).is_empty());
    let after = memory(node.pid());
    assert!(after <= before + 1024, "{before} KiB before, {after} KiB after");
}
