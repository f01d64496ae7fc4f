//! The volumes that nearly every pod has; all others are in `tests/e2e/tests/volumes.rs`.

use std::path::Path;

use harness::cri::node::{Shared, shared_pod};
use harness::cri::{Container, ContainerSpec, api};
use harness::ctr::BUSYBOX;
use harness::eventually;

use crate::probe;

#[test]
fn a_termination_message_comes_back() {
    shared_pod(|node| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let spec = ContainerSpec::shell("main", "echo it was me >/dev/termination-log; exit 1");
        let container = node.start(spec.mount(file.path(), "/dev/termination-log"));
        assert_eq!(node.cri.exited(&container).exit_code, 1);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "it was me\n");
    });
}

/// What kubelet makes of a ConfigMap: the files' directory is a symbolic link's target.
fn publish(dir: &Path, version: u32) {
    let data = dir.join(format!("..{version}"));
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("key"), format!("value {version}")).unwrap();
    std::os::unix::fs::symlink(data.file_name().unwrap(), dir.join("..data_tmp")).unwrap();
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

#[test]
fn containers_share_volumes_and_see_new_configuration() {
    shared_pod(|node| {
        let cri = &node.cri;
        let (scratch, map) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        publish(map.path(), 1);
        std::os::unix::fs::symlink("..data/key", map.path().join("key")).unwrap();
        let spec = |name: &str| {
            let spec = ContainerSpec::idle(name).mount(scratch.path(), "/scratch");
            spec.mount_read_only(map.path(), "/config")
        };
        let one = node.start(spec("one"));
        let other = node.start(spec("other"));
        cri.sh(&one, "echo from one >/scratch/file");
        assert_eq!(cri.sh(&other, "cat /scratch/file"), "from one");
        assert_eq!(std::fs::read_to_string(scratch.path().join("file")).unwrap(), "from one\n");
        let written = cri.exec_sync(&one, &["sh", "-c", "echo x >/config/key"]);
        assert!(written.stderr.contains("Read-only file system"), "{written:?}");
        assert_eq!(cri.sh(&one, "cat /config/key"), "value 1");
        publish(map.path(), 2);
        eventually("the new value is seen", || cri.sh(&one, "cat /config/key") == "value 2");
    });
}

#[test]
fn image_is_a_volume_that_nobody_writes() {
    shared_pod(|node| {
        let cri = &node.cri;
        let image = api::Mount {
            container_path: "/image".to_owned(),
            readonly: true,
            image: Some(api::ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() }),
            ..Default::default()
        };
        let main = node.start(ContainerSpec::idle("main").mounted(image));
        assert_eq!(cri.sh(&main, "cmp /image/bin/busybox /bin/busybox && echo same"), "same");
        let written = cri.exec_sync(&main, &["sh", "-c", "echo x >/image/new"]);
        assert!(written.stderr.contains("Read-only file system"), "{written:?}");
    });
}

/// The directory of an `emptyDir` volume; its name is like kubelet's.
fn empty_dir(kubelet: &Path) -> std::path::PathBuf {
    let volume = kubelet.join("pods/1/volumes/kubernetes.io~empty-dir/shared");
    std::fs::create_dir_all(&volume).unwrap();
    volume
}

/// What a container has told of changes in the shared volume.
struct Events(tempfile::TempDir);

impl Events {
    /// Starts the container that tells.
    fn new(node: &Shared, shared: &Path) -> (Self, Container) {
        let out = tempfile::tempdir().unwrap();
        let watcher = ContainerSpec::shell("watcher", &probe::command("events"));
        let watcher = watcher.mount(shared, "/shared").mount(out.path(), "/out");
        let watcher = node.start(probe::given(watcher));
        let events = Self(out);
        eventually("somebody watches", || events.text() == "watching\n");
        (events, watcher)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.0.path().join("events")).unwrap_or_default()
    }

    /// Waits for a file's creation, and its end.
    fn tell(&self, file: &str) {
        let line = format!("{file}\n");
        eventually("the change is told", || self.text().matches(&line).count() == 2);
    }
}

#[test]
fn inotify_on_a_volume_tells_of_the_pods_changes_and_not_of_the_hosts() {
    shared_pod(|node| {
        let cri = &node.cri;
        let kubelet = tempfile::tempdir().unwrap();
        let shared = empty_dir(kubelet.path());
        let (events, watcher) = Events::new(node, &shared);
        std::fs::write(shared.join("by-the-host"), "x").unwrap();
        let writer = ContainerSpec::idle("writer").mount(&shared, "/shared");
        let writer = node.start(writer);
        // These are seen, and so are past when the last one happens.
        assert_eq!(cri.sh(&writer, "cat /shared/by-the-host; echo y >/shared/by-another"), "x");
        assert_eq!(cri.sh(&watcher, "cat /shared/by-another; echo z >/shared/by-itself"), "y");
        events.tell("by-itself");
        let told = events.text();
        assert!(told.contains("by-another") && !told.contains("by-the-host"), "{told}");
    });
}

#[test]
fn inotify_on_a_memory_volume_tells_of_the_pods_changes() {
    shared_pod(|node| {
        let cri = &node.cri;
        let kubelet = tempfile::tempdir().unwrap();
        let shared = empty_dir(kubelet.path());
        let memory = Tmpfs::at(&shared);
        let (events, _) = Events::new(node, &shared);
        let writer = ContainerSpec::idle("writer").mount(&shared, "/shared");
        let writer = node.start(writer);
        cri.sh(&writer, "echo y >/shared/by-another");
        events.tell("by-another");
        drop(memory);
    });
}

/// Starts a container that answers at a socket in a volume, and one that has the volume as well.
fn socket(node: &Shared, shared: &Path) -> (Container, Container) {
    let sidecar = ContainerSpec::shell("sidecar", &probe::command("answer"));
    let sidecar = node.start(probe::given(sidecar.mount(shared, "/shared")));
    let main = probe::given(ContainerSpec::idle("main").mount(shared, "/shared"));
    let main = node.start(main);
    eventually("the socket is seen", || {
        node.cri.exec_sync(&main, &["test", "-S", "/shared/socket"]).code == 0
    });
    (sidecar, main)
}

#[test]
fn containers_of_a_pod_meet_at_a_socket_in_a_memory_volume() {
    shared_pod(|node| {
        let cri = &node.cri;
        let kubelet = tempfile::tempdir().unwrap();
        let shared = empty_dir(kubelet.path());
        let memory = Tmpfs::at(&shared);
        let (_, main) = socket(node, &shared);
        let answer = cri.sh(&main, &probe::command("ask"));
        assert!(answer.contains("question heard"), "{answer}");
        drop(memory);
    });
}

#[test]
fn containers_of_a_pod_meet_at_a_socket_in_a_volume_and_see_each_others_locks() {
    shared_pod(|node| {
        let cri = &node.cri;
        let kubelet = tempfile::tempdir().unwrap();
        let shared = empty_dir(kubelet.path());
        let (sidecar, main) = socket(node, &shared);
        let answer = cri.sh(&main, &probe::command("ask"));
        assert!(answer.contains("question heard"), "{answer}");
        cri.sh(&sidecar, &format!("{} >/dev/null 2>&1 &", probe::command("lock")));
        let lock = || cri.sh(&main, &probe::command("try_lock"));
        eventually("the lock is held", || lock().contains("lock is held"));
        // What somebody else still has stays when a container goes.
        cri.remove(&sidecar);
        eventually("the lock is free", || lock().contains("lock is free"));
        // One that comes later, and may only read.
        let reader = ContainerSpec::idle("reader").mount_read_only(&shared, "/shared");
        let reader = node.start(reader);
        cri.sh(&main, "echo new >/shared/file");
        assert_eq!(cri.sh(&reader, "cat /shared/file"), "new");
        let written = cri.exec_sync(&reader, &["sh", "-c", "echo x >/shared/file"]);
        assert!(written.stderr.contains("Read-only file system"), "{written:?}");
    });
}

#[test]
fn secret_in_memory_of_the_host_is_seen_and_not_written() {
    shared_pod(|node| {
        let cri = &node.cri;
        let kubelet = tempfile::tempdir().unwrap();
        let secret = kubelet.path().join("pods/1/volumes/kubernetes.io~secret/key");
        std::fs::create_dir_all(&secret).unwrap();
        let mounted = Tmpfs::at(&secret);
        publish(&secret, 1);
        std::os::unix::fs::symlink("..data/key", secret.join("key")).unwrap();
        let main = ContainerSpec::idle("main").mount_read_only(&secret, "/secret");
        let main = node.start(main);
        assert_eq!(cri.sh(&main, "cat /secret/key"), "value 1");
        let written = cri.exec_sync(&main, &["sh", "-c", "echo x >/secret/new"]);
        assert!(written.stderr.contains("Read-only file system"), "{written:?}");
        publish(&secret, 2);
        eventually("the new value is seen", || cri.sh(&main, "cat /secret/key") == "value 2");
        drop(mounted);
    });
}

/// A tmpfs of the host.
struct Tmpfs<'path>(&'path Path);

impl<'path> Tmpfs<'path> {
    fn at(path: &'path Path) -> Self {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", path, "tmpfs", flags, c"size=1M").unwrap();
        Self(path)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let gone = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
        assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
    }
}
