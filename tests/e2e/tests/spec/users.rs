//! User namespaces, whose users own their files and no others.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::containerd::newest;
use harness::cri::{ContainerSpec, Cri, Daemon, Pod, PodSpec, api, bridge};
use harness::ctr::{BUSYBOX, Name, RUNTIME, ctr};
use harness::host;
use serde_json::json;

use super::Bundle;

/// First id of the host that users have.
const FIRST: u32 = 100_000;

/// containerd before 2.3 asks only runc's shim type for its features, and offers kubelet what is
/// among them.
const FEATURES: &str = "
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.cuddy-features]
runtime_type = 'io.containerd.runc.v2'
runtime_path = '/usr/local/bin/containerd-shim-cuddy-v2'
";

fn chown_all(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        let entries = std::fs::read_dir(path).unwrap().flatten();
        entries.for_each(|entry| chown_all(&entry.path(), id));
    }
}

#[test]
fn user_namespace_sees_its_own_files_as_its_own() {
    let script = "id -u; cat /proc/self/uid_map | tr -s ' '; stat -c %u /bin/sh /data /data/web; \
                  touch /made /data/made && chown 33:33 /data/made && echo fine";
    let mut bundle = Bundle::new("userns", script);
    let root = bundle.path("root");
    for applet in ["id", "tr", "stat", "chown"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    chown_all(&root, FIRST);
    let data = bundle.path("volume");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("web"), "").unwrap();
    chown(data.join("web"), Some(33), Some(33)).unwrap();
    let map = json!([{"containerID": 0, "hostID": FIRST, "size": 65536}]);
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    bundle.spec["linux"]["uidMappings"] = map.clone();
    bundle.spec["linux"]["gidMappings"] = map.clone();
    // A volume of the host whose files belong to whom they belong: as kubelet asks for it.
    bundle.push(
        "/mounts",
        json!({"destination": "/data", "type": "bind", "source": data,
        "options": ["rbind", "rw"], "uidMappings": map, "gidMappings": map}),
    );
    let done = bundle.run();
    assert_eq!(done.stdout, format!("0\n 0 {FIRST} 65536\n0\n0\n33\nfine\n"), "{done:?}");
    let owner = |path: PathBuf| std::fs::metadata(path).unwrap().uid();
    assert_eq!(owner(root.join("made")), FIRST);
    assert_eq!(owner(data.join("made")), 33);
    host::settled();
}

#[test]
fn image_of_a_user_namespace_is_mapped_by_the_snapshotter() {
    let map = "0:200000:65536";
    for mapping in [&[][..], &["--remap-labels"]] {
        let name = Name::new("remapped");
        let fixed = ["run", "--rm", "--runtime", RUNTIME, "--uidmap", map, "--gidmap", map];
        let script = "id -u; stat -c %u /bin/busybox; touch /made && stat -c %u /made";
        let rest = [BUSYBOX, name.as_str(), "sh", "-c", script];
        let done = ctr(&[&fixed[..], mapping, &rest].concat());
        assert_eq!(done.stdout, "0\n0\n0\n", "{mapping:?}: {done:?}");
        host::settled();
    }
}

/// Where a daemon has its layers.
const LAYERS: &str = "root/io.containerd.snapshotter.v1.overlayfs/snapshots";

/// What kubelet asks for when a pod has `hostUsers: false`.
fn users() -> Option<api::UserNamespace> {
    let ids = vec![api::IdMapping { host_id: FIRST, container_id: 0, length: 65_536 }];
    let mode = api::NamespaceMode::Pod.into();
    Some(api::UserNamespace { mode, uids: ids.clone(), gids: ids })
}

fn container(name: &str, volumes: &[&Path]) -> ContainerSpec {
    let mut spec = ContainerSpec::idle(name);
    for (number, volume) in volumes.iter().enumerate() {
        let ids = users().unwrap();
        spec = spec.mounted(api::Mount {
            container_path: format!("/volume{number}"),
            host_path: volume.to_str().unwrap().to_owned(),
            uid_mappings: ids.uids,
            gid_mappings: ids.gids,
            ..Default::default()
        });
    }
    spec.namespaces().userns_options = users();
    spec
}

/// A filesystem in memory, as kubelet makes one for secrets.
struct Memory(tempfile::TempDir);

impl Memory {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "none"]).arg(dir.path());
        assert!(mount.status().unwrap().success());
        Self(dir)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg(self.0.path()).status();
    }
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = std::fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

fn offered(daemon: &Daemon, handler: &str) -> bool {
    let cri = daemon.cri();
    let mut service = cri.runtime_service();
    let status = cri.wait(service.status(api::StatusRequest { verbose: false })).unwrap();
    let handlers = status.runtime_handlers.into_iter();
    let mut features = handlers.filter(|one| one.name == handler).filter_map(|one| one.features);
    features.any(|one| one.user_namespaces && one.recursive_read_only_mounts)
}

/// Copies the small image's layer from where the lab has it mounted for all daemons: containerd
/// maps ids on the one filesystem that its layers are on.
fn own_layer(layers: &Path) {
    let script = "cp -a $1 $1.own && umount $1 && cp -a $1.own/. $1 && rm -r $1.own";
    for layer in std::fs::read_dir(layers).unwrap().flatten().map(|entry| entry.path()) {
        if layer.join("fs/bin/busybox").exists() && !host::mounts(&layer).is_empty() {
            let mut copy = Command::new("sh");
            copy.args(["-c", script, "sh"]).arg(&layer);
            assert!(copy.status().unwrap().success());
        }
    }
}

#[test]
fn pods_have_users_of_their_own() {
    let daemon = Daemon::with(&newest(), bridge, FEATURES);
    assert!(offered(&daemon, "cuddy-features"));
    own_layer(&daemon.path(LAYERS));
    for handler in ["cuddy-features", "cuddy-sandbox"] {
        println!("{handler}");
        let mut spec = PodSpec::new("users").handler(handler);
        spec.namespaces().userns_options = users();
        let cri = daemon.cri();
        let pod = cri.run_pod(spec);
        volumes_and_layers(&daemon, &cri, &pod);
        capabilities(&cri, &pod);
        cri.remove_pod(&pod);
        daemon.settled();
    }
}

/// Files belong on the host's disk to whom they belong in the container, those of the image and
/// of layers excepted.
fn volumes_and_layers(daemon: &Daemon, cri: &Cri, pod: &Pod) {
    let (disk, memory) = (tempfile::tempdir().unwrap(), Memory::new());
    for volume in [disk.path(), memory.0.path()] {
        std::fs::write(volume.join("web"), "content").unwrap();
        chown(volume.join("web"), Some(33), Some(44)).unwrap();
    }
    let volumes = [disk.path(), memory.0.path()];
    let one = cri.start_new(pod, container("one", &volumes));
    let map = "id -u; awk '{ print $1, $2, $3 }' /proc/self/uid_map; stat -c %u /bin/busybox";
    assert_eq!(cri.sh(&one, map), "0\n0 100000 65536\n0");
    assert_eq!(cri.sh(&one, "stat -c %u:%g /volume0/web /volume1/web"), "33:44\n33:44");
    cri.sh(&one, "for v in /volume0 /volume1; do touch $v/made; chown 7:8 $v/web; done");
    for volume in volumes {
        assert_eq!((owner(&volume.join("made")), owner(&volume.join("web"))), ((0, 0), (7, 8)));
    }
    cri.sh(&one, "echo >/made-in-a-layer; chown 9:9 /made-in-a-layer; chmod 755 /bin/busybox");
    let layers = std::fs::read_dir(daemon.path(LAYERS))
        .unwrap()
        .flatten()
        .map(|layer| layer.path().join("fs"));
    let layer = layers.into_iter().find(|layer| layer.join("made-in-a-layer").exists()).unwrap();
    assert_eq!(owner(&layer.join("made-in-a-layer")), (FIRST + 9, FIRST + 9));
    assert_eq!(owner(&layer.join("bin/busybox")), (FIRST, FIRST));
}

/// Containers are in one user namespace, in which they may do what runc's may.
fn capabilities(cri: &Cri, pod: &Pod) {
    let mut first = container("first", &[]);
    first.security().privileged = false;
    let add = vec!["SYS_PTRACE".to_owned(), "NET_ADMIN".to_owned()];
    first.security().capabilities =
        Some(api::Capability { add_capabilities: add, ..Default::default() });
    let second = container("second", &[]);
    let (first, second) = (cri.start_new(pod, first), cri.start_new(pod, second));
    let namespace = "readlink /proc/self/ns/user; readlink /proc/1/ns/user";
    assert_eq!(cri.sh(&first, namespace), cri.sh(&second, namespace));
    let denied = cri.exec_sync(&first, &["sh", "-c", "mount -t tmpfs none /tmp"]);
    assert_ne!(denied.code, 0, "{denied:?}");
    let script = "nc -l -p 80 & sleep 1; cat /proc/net/tcp /proc/net/tcp6; kill $!";
    let listening = cri.sh(&second, script);
    assert!(listening.contains(":0050 "), "{listening}");
    // The network is the guest's, not the user namespace's: see docs/limits.md.
    let address = ["ip", "address", "add", "10.1.1.1/32", "dev", "lo"];
    let denied = cri.exec_sync(&first, &address);
    assert!(denied.stderr.contains("not permitted"), "{denied:?}");
}
