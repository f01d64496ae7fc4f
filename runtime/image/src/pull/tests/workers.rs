//! The processes that bring layers: what they may do, and what follows when one ends.

use std::fs;

use super::*;

/// The worker that writes a layer into the store at `path`: another process that has a file there.
fn worker_at(path: &Path) -> Option<i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| {
        // Processes come and go.
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut files = files.filter_map(|file| fs::read_link(file.path()).ok());
        *pid != own && files.any(|file| file.starts_with(path.join("staging")))
    })
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// A server that stops in the middle of a layer until its gate opens.
async fn holding(layer: &Layer, images: &[&str], gate: &Gate) -> Server {
    let mut content = Content::default();
    for image in images {
        content = content.image(image, std::slice::from_ref(layer));
    }
    let (held, slow) = (gate.clone(), layer.clone());
    Server::start(move |request| {
        let (start, end) = slow.blob.split_at(slow.blob.len() / 2);
        match object(request) == slow.digest().as_str() {
            true => Answer::ok(start).wait(&held).send(end),
            false => content.answer(request),
        }
    })
    .await
}

#[tokio::test]
async fn worker_has_no_rights_and_nothing_of_the_host() {
    let (layer, gate) = (Layer::of("tar+gzip", 1), Gate::default());
    let server = holding(&layer, &["a"], &gate).await;
    let node = Node::of(&server);
    let pull = node.spawn("a", Some(auth()));
    gate.reached().await;
    let pid = worker_at(node.directory.path()).unwrap();
    // Its first thread here is the test program's, which has started the role in another.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads = threads.map(|thread| thread.unwrap().path());
    for thread in threads.filter(|thread| !thread.ends_with(pid.to_string())) {
        has_no_rights(&thread);
    }
    for told in ["cmdline", "environ"] {
        let text = fs::read(format!("/proc/{pid}/{told}")).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("hunter2"), "{told}");
    }
    gate.open();
    pull.await.unwrap().unwrap();
    until(|| !Path::new(&format!("/proc/{pid}")).exists()).await;
}

fn has_no_rights(thread: &Path) {
    let at = |name: &str| thread.join(name);
    let status = fs::read_to_string(at("status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(value(set), ["0000000000000000"], "{set}");
    }
    assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), (vec!["1".into()], vec!["2".into()]));
    assert_eq!((value("Groups:").len(), value("Uid:").contains(&"0".to_owned())), (0, false));
    assert!(!value("Gid:").contains(&"0".to_owned()), "{status}");
    assert_eq!(fs::read_dir(at("root")).unwrap().count(), 0, "its root directory is empty");
    for namespace in ["ns/mnt", "ns/ipc", "ns/uts"] {
        let of = |path: &Path| fs::read_link(path).unwrap();
        let own = Path::new("/proc/self").join(namespace);
        assert_ne!(of(&at(namespace)), of(&own), "{namespace}");
    }
}

#[tokio::test]
async fn worker_that_is_killed_at_a_layer_is_named_and_leaves_nothing() {
    let (layer, gate) = (Layer::of("tar+gzip", 1), Gate::default());
    let server = holding(&layer, &["a"], &gate).await;
    let node = Node::of(&server);
    let pull = node.spawn("a", None);
    gate.reached().await;
    let pid = worker_at(node.directory.path()).unwrap();
    kill(pid);
    let error = pull.await.unwrap().unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("(pid {pid}) ended by signal: 9")), "{text}");
    assert!(!error.is_unavailable(), "{text}");
    node.quiet().await;
    assert_eq!((node.files("layers"), node.files("staging")), (0, 0));
    // The answer that nobody takes, and then the other one.
    gate.open();
    let again = node.spawn("a", None);
    gate.reached().await;
    gate.open();
    again.await.unwrap().unwrap();
    fsck(&node.store.layer_path(&layer.diff_id));
}

#[tokio::test]
async fn pull_whose_layer_was_another_workers_brings_it_itself() {
    let (layer, gate) = (Layer::of("tar+gzip", 1), Gate::default());
    let server = holding(&layer, &["a", "b"], &gate).await;
    let node = Node::of(&server);
    let first = node.spawn("a", None);
    gate.reached().await;
    let second = node.spawn("b", None);
    node.waiting(&layer, 2).await;
    kill(worker_at(node.directory.path()).unwrap());
    assert!(matches!(first.await.unwrap().unwrap_err().cause, Cause::Worker(_)));
    gate.open();
    gate.reached().await;
    gate.open();
    assert_eq!(second.await.unwrap().unwrap().user, "b");
    assert_eq!(asked(&server, &layer), 2);
}
