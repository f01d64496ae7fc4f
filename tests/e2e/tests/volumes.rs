//! Volumes of every kind: what the host has is what containers see, and the other way round.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::containerd::{self, Containerd};
use harness::ctr::{BUSYBOX, Name, RUNTIME, ctr};
use harness::shim::{Pod, Ran, busybox_root, mount};
use harness::{PATIENCE, eventually, host};
use serde_json::json;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A directory of the host with a root filesystem, what is mounted in it, and its end.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        busybox_root(dir.path());
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn dir(&self, name: &str) -> PathBuf {
        std::fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn tmpfs(&self, name: &str, options: &str) -> PathBuf {
        let path = self.dir(name);
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", text(&path)]);
        path
    }

    /// A loop device with zeroes.
    fn disk(&self, name: &str, size: u64) -> Loop {
        let file = self.file(name, "");
        std::fs::File::options().write(true).open(&file).unwrap().set_len(size).unwrap();
        Loop(run("losetup", &["--find", "--show", text(&file)]).into())
    }

    /// Runs a pod on this root filesystem to its end, and sees that nothing is left.
    fn run(&self, pod: Pod) -> Ran {
        let ran = self.try_run(&pod).unwrap();
        drop(pod);
        host::settled();
        ran
    }

    fn try_run(&self, pod: &Pod) -> Result<Ran, String> {
        pod.run(vec![mount("bind", &self.path("root"), &["rbind", "rw"])])
            .map_err(|error| error.to_string())
    }

    /// Runs a pod that must be refused; why.
    fn refused(&self, pod: Pod) -> String {
        let error = self.try_run(&pod).unwrap_err();
        drop(pod);
        host::settled();
        error
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for point in host::mounts(self.0.path()).iter().rev() {
            Command::new("umount").arg("--lazy").arg(point).status().unwrap();
        }
    }
}

/// A loop device, as long as the value lives.
struct Loop(PathBuf);

impl Loop {
    fn numbers(&self) -> (u32, u32) {
        use std::os::unix::fs::MetadataExt;
        let device = self.0.metadata().unwrap().rdev();
        (rustix::fs::major(device), rustix::fs::minor(device))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        Command::new("losetup").arg("--detach").arg(&self.0).status().unwrap();
    }
}

/// Starts a container of the small image with mounts (as `ctr` writes them), in the background.
fn detach(name: &Name, mounts: &[String], script: &str) {
    let mut arguments = vec!["run", "--detach"];
    for mount in mounts {
        arguments.extend(["--mount", mount]);
    }
    arguments.extend(["--runtime", RUNTIME, BUSYBOX, name.as_str(), "sh", "-c", script]);
    ctr(&arguments).ok();
}

fn bind(source: &Path, destination: &str, options: &str) -> String {
    format!("type=bind,src={},dst={destination},options={options}", text(source))
}

/// Writes a volume's content as kubelet does: a directory of its own, shown by a link that is
/// replaced at once.
fn publish(volume: &Path, version: &str, content: &str) {
    std::fs::create_dir(volume.join(version)).unwrap();
    std::fs::write(volume.join(version).join("key"), content).unwrap();
    symlink(version, volume.join("..data_tmp")).unwrap();
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

#[test]
fn config_map_changes_are_seen_within_a_second() {
    let ground = Ground::new();
    let (volume, out) = (ground.dir("volume"), ground.dir("out"));
    publish(&volume, "..1", "first\n");
    symlink("..data/key", volume.join("key")).unwrap();
    let name = Name::new("config-map");
    // What it sees is written where the host sees it, as often as it can.
    let script = "while :; do read -r seen </cfg/key; echo $seen >/out/seen; done";
    let mounts = [bind(&volume, "/cfg", "rbind:ro"), bind(&out, "/out", "rbind:rw")];
    detach(&name, &mounts, script);
    let seen = || std::fs::read_to_string(out.join("seen")).unwrap_or_default();
    let sees = |what: &str| seen().trim_end() == what;
    eventually("the container sees the first version", || sees("first"));
    let mut slowest = Duration::ZERO;
    for version in ["second", "third", "fourth", "fifth"] {
        let begin = Instant::now();
        publish(&volume, &format!("..{version}"), &format!("{version}\n"));
        while !sees(version) && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        slowest = slowest.max(begin.elapsed());
    }
    println!("slowest change seen after {} ms", slowest.as_millis());
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    name.remove();
    host::settled();
}

#[test]
fn read_only_is_one_mount_or_all_of_them() {
    let ground = Ground::new();
    ground.tmpfs("volume", "size=1M");
    ground.tmpfs("volume/sub", "size=1M");
    let script = "for d in /ro /rro; do touch $d/x || echo $d; touch $d/sub/x || echo $d/sub; done";
    let pod = Pod::new("read-only", script);
    pod.bind(&ground.path("volume"), "/ro", &["rbind", "ro", "rprivate"]);
    pod.bind(&ground.path("volume"), "/rro", &["rbind", "rro", "rprivate"]);
    let ran = ground.run(pod);
    let lines: Vec<_> = ran.output.lines().filter(|line| line.starts_with('/')).collect();
    assert_eq!(lines, ["/ro", "/rro", "/rro/sub"], "{ran:?}");
    assert!(ground.path("volume/sub/x").exists() && !ground.path("volume/x").exists());
}

#[test]
fn later_mounts_of_the_host_come_and_go_where_they_are_wanted() {
    let ground = Ground::new();
    let volume = ground.dir("volume");
    ground.dir("volume/sub");
    let name = Name::new("propagation");
    let mounts = [bind(&volume, "/slave", "rbind:rslave"), bind(&volume, "/private", "rbind")];
    detach(&name, &mounts, "sleep 1000");
    let sees = |path: &str| name.exec(&["ls", path]).code == Some(0);
    assert!(!sees("/slave/sub/file"));
    ground.tmpfs("volume/sub", "size=1M");
    ground.file("volume/sub/file", "late\n");
    eventually("the mount appears", || sees("/slave/sub/file"));
    assert!(!sees("/private/sub/file"));
    // The machine sees it without devices and set-user-id programs.
    let table = format!("/proc/{}/mountinfo", host::vmms()[0]);
    let table = std::fs::read_to_string(table).unwrap();
    let lines: Vec<_> = table.lines().filter(|line| line.contains("/mounts/")).collect();
    assert!(lines.iter().any(|line| line.contains("/sub ")), "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("nosuid,nodev")), "{lines:#?}");
    run("umount", &[text(&ground.path("volume/sub"))]);
    eventually("the mount is gone", || !sees("/slave/sub/file"));
    name.remove();
    host::settled();
}

#[test]
fn host_unmounts_and_removes_what_is_below_a_volume_in_use() {
    let ground = Ground::new();
    let volume = ground.tmpfs("volume", "size=1M");
    ground.tmpfs("volume/sub", "size=1M");
    ground.file("volume/sub/file", "there\n");
    let name = Name::new("in-use");
    detach(&name, &[bind(&volume, "/volume", "rbind")], "sleep 1000");
    assert_eq!(name.exec(&["cat", "/volume/sub/file"]).stdout, "there\n");
    assert_eq!(host::mounts(Path::new("/run/cuddy/default")), Vec::<PathBuf>::new());
    run("umount", &[text(&ground.path("volume/sub"))]);
    std::fs::remove_dir(ground.path("volume/sub")).unwrap();
    // The container keeps what it has as long as it lives, and no longer.
    let vmm = format!("/proc/{}/mountinfo", host::vmms()[0]);
    let mounted = std::fs::read_to_string(vmm).unwrap();
    assert!(mounted.contains("/mounts/"), "{mounted}");
    name.remove();
    host::settled();
}

#[test]
fn mounts_that_shall_reach_the_host_are_refused() {
    let ground = Ground::new();
    let pod = Pod::new("bidirectional", "true");
    pod.bind(&ground.dir("volume"), "/csi", &["rbind", "rshared"]);
    let error = ground.refused(pod);
    assert!(error.contains("/csi") && error.contains("Bidirectional"), "{error}");
}

#[test]
fn block_device_of_the_host_is_a_disk_at_the_path_that_was_asked_for() {
    let ground = Ground::new();
    let (data, fixed) = (ground.disk("data.img", 1 << 20), ground.disk("fixed.img", 1 << 20));
    std::fs::write(&fixed.0, "fixed").unwrap();
    let script = "echo written | dd of=/dev/data seek=1 conv=notrunc 2>/dev/null; \
        dd if=/dev/data bs=512 skip=1 count=1 2>/dev/null | busybox head -n 1; \
        busybox head -c 5 /dev/fixed; echo; echo x >/dev/fixed || echo refused; \
        busybox mknod /other b $(busybox stat -c '0x%t 0x%T' /dev/vda 2>/dev/null || echo 254 0); \
        cat /other >/dev/null || echo not another";
    let pod = Pod::new("block", script);
    pod.configure(|config| {
        let device = |disk: &Loop, path: &str| {
            let (major, minor) = disk.numbers();
            json!({"type": "b", "path": path, "major": major, "minor": minor, "fileMode": 0o600})
        };
        let rule = |disk: &Loop, access: &str| {
            let (major, minor) = disk.numbers();
            json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": access})
        };
        config["process"]["capabilities"] = json!({"bounding": ["CAP_MKNOD"], "effective": ["CAP_MKNOD"], "permitted": ["CAP_MKNOD"]});
        config["linux"]["devices"] =
            json!([device(&data, "/dev/data"), device(&fixed, "/dev/fixed")]);
        config["linux"]["resources"] = json!({"devices": [
            {"allow": false, "access": "rwm"}, rule(&data, "rwm"), rule(&fixed, "r"),
        ]});
    });
    let ran = ground.run(pod);
    let output = &ran.output;
    assert!(output.starts_with("written\nfixed\n"), "{output}");
    assert!(output.contains("refused\n") && output.contains("not another\n"), "{output}");
    let bytes = std::fs::read(&data.0).unwrap();
    assert_eq!(&bytes[512..520], b"written\n");
    assert_eq!(&std::fs::read(&fixed.0).unwrap()[..6], b"fixed\0");
}

#[test]
fn block_devices_in_a_user_namespace_are_those_that_were_asked_for() {
    let ground = Ground::new();
    let (one, other) = (ground.disk("one.img", 1 << 20), ground.disk("other.img", 1 << 20));
    std::fs::write(&one.0, "one").unwrap();
    std::fs::write(&other.0, "two").unwrap();
    let script = "busybox head -c 3 /dev/vdb; busybox head -c 3 /dev/vda; \
        busybox head -c 3 /dev/data; echo";
    let pod = Pod::new("users-block", script);
    pod.configure(|config| {
        let device = |disk: &Loop, path: &str| {
            let (major, minor) = disk.numbers();
            json!({"type": "b", "path": path, "major": major, "minor": minor})
        };
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        // In this order they are the guest's vda, vdb and vdc, if it has no other disk.
        linux["devices"] = json!([
            device(&one, "/dev/vdb"),
            device(&other, "/dev/vda"),
            device(&other, "/dev/data"),
        ]);
    });
    assert_eq!(ground.run(pod).output, "onetwotwo\n");
}

#[test]
fn device_files_of_the_host_are_disks_common_devices_or_refused() {
    let ground = Ground::new();
    let disk = ground.disk("data.img", 1 << 20);
    let pod = Pod::new("device-files", "echo disk >/disk; sync; echo gone >/nothing && echo ok");
    pod.bind(&disk.0, "/disk", &["bind"]);
    pod.bind(Path::new("/dev/null"), "/nothing", &["bind"]);
    pod.configure(|config| {
        config["linux"]["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]});
    });
    let ran = ground.run(pod);
    assert_eq!(ran.output, "ok\n");
    assert_eq!(&std::fs::read(&disk.0).unwrap()[..5], b"disk\n");
    let pod = Pod::new("no-such-device", "true");
    pod.bind(Path::new("/dev/kvm"), "/dev/kvm", &["bind"]);
    let error = ground.refused(pod);
    assert!(error.contains("/dev/kvm") && error.contains("10:232"), "{error}");
}

#[test]
fn socket_of_the_host_is_seen_and_nobody_answers() {
    let ground = Ground::new();
    let _listener = std::os::unix::net::UnixListener::bind(ground.path("socket")).unwrap();
    let pod = Pod::new("socket", "[ -S /socket ] && echo seen");
    pod.bind(&ground.path("socket"), "/socket", &["bind"]);
    let ran = ground.try_run(&pod).unwrap();
    assert_eq!(ran.output, "seen\n");
    let log = pod.log();
    assert!(log.contains("socket") && log.contains("nobody answers"), "{log}");
    drop(pod);
    host::settled();
}

#[test]
fn shared_memory_has_the_pods_size_and_is_the_guests() {
    let ground = Ground::new();
    let shm = ground.tmpfs("sandboxes/1/shm", "size=8M,mode=1777");
    let script = "busybox df -k /dev/shm | busybox tail -n 1; \
        dd if=/dev/zero of=/dev/shm/x bs=1M count=9 2>&1 | busybox grep -o 'No space left'; \
        busybox stat -c %a /dev/shm; wc -c </dev/shm/x";
    let pod = Pod::new("shm", script);
    pod.bind(&shm, "/dev/shm", &["rbind", "rw"]);
    let ran = ground.run(pod);
    assert!(ran.output.contains(" 8192 ") && ran.output.contains("No space left"), "{ran:?}");
    assert!(ran.output.ends_with("1777\n8388608\n"), "{ran:?}");
    assert_eq!(std::fs::read_dir(&shm).unwrap().count(), 0);
}

#[test]
fn memory_volume_is_one_for_all_and_limited() {
    let ground = Ground::new();
    let volume = ground.tmpfs("pods/1/volumes/kubernetes.io~empty-dir/cache", "size=4M,mode=777");
    ground.dir("pods/1/volumes/kubernetes.io~empty-dir/cache/sub");
    let part = ground.dir("pods/1/volume-subpaths/cache/web/0");
    let whole = text(&volume).to_owned() + "/sub";
    run("mount", &["--bind", &whole, text(&part)]);
    let script = "echo shared >/cache/sub/file; cat /part/file; \
        dd if=/dev/zero of=/part/x bs=1M count=5 2>&1 | busybox grep -o 'No space left'; \
        busybox stat -c %a /cache; busybox df -k /cache | busybox tail -n 1";
    let pod = Pod::new("memory", script);
    pod.bind(&volume, "/cache", &["rbind", "rw"]);
    pod.bind(&part, "/part", &["rbind", "rw"]);
    let ran = ground.run(pod);
    assert!(ran.output.starts_with("shared\n") && ran.output.contains("777\n"), "{ran:?}");
    assert!(ran.output.contains("No space left") && ran.output.contains(" 4096 "), "{ran:?}");
    assert!(!volume.join("sub/file").exists(), "it went to the host");
}

#[test]
fn sixty_volumes_of_all_shapes_fit_into_one_pod() {
    let ground = Ground::new();
    ground.file("real/file", "behind links\n");
    symlink(ground.path("real"), ground.path("link")).unwrap();
    symlink(ground.path("link/file"), ground.path("file-link")).unwrap();
    let script = "for n in $(busybox seq 0 59); do cat /v$n/file; done | wc -l; \
        cat /linked/file /one /deep/er/file; echo ended >/dev/termination-log";
    let pod = Pod::new("sixty", script);
    for n in 0..60 {
        let file = ground.file(&format!("volumes/{n}/file"), "x\n");
        pod.bind(file.parent().unwrap(), &format!("/v{n}"), &["rbind", "rprivate"]);
    }
    pod.bind(&ground.path("link"), "/linked", &["rbind"]);
    pod.bind(&ground.path("file-link"), "/one", &["rbind", "ro"]);
    pod.bind(&ground.path("real/file"), "/deep/er/file", &["rbind"]);
    let termination = ground.file("termination-log", "");
    pod.bind(&termination, "/dev/termination-log", &["rbind", "rw"]);
    let ran = ground.run(pod);
    assert_eq!(ran.output, "60\nbehind links\nbehind links\nbehind links\n");
    assert_eq!(std::fs::read_to_string(termination).unwrap(), "ended\n");
}

#[test]
fn mounted_filesystem_is_a_volume_and_keeps_what_was_written_last() {
    let ground = Ground::new();
    let disk = ground.disk("pvc.img", 32 << 20);
    run("mkfs.ext4", &["-q", text(&disk.0)]);
    let volume = ground.dir("pvc");
    run("mount", &[text(&disk.0), text(&volume)]);
    let pod = Pod::new("pvc", "dd if=/dev/zero of=/pvc/file bs=1M count=4 2>/dev/null");
    pod.bind(&volume, "/pvc", &["rbind", "rw"]);
    assert_eq!(ground.run(pod).status, 0);
    assert_eq!(volume.join("file").metadata().unwrap().len(), 4 << 20);
    run("umount", &[text(&volume)]);
}

#[test]
fn tmpfs_can_begin_with_what_it_hides() {
    let ground = Ground::new();
    ground.file("root/data/dir/file", "copied\n");
    symlink("dir/file", ground.path("root/data/link")).unwrap();
    run("chmod", &["751", text(&ground.path("root/data/dir"))]);
    run("chown", &["12:34", text(&ground.path("root/data/dir"))]);
    let script = "cat /data/link; busybox stat -c '%a %u %g' /data/dir; echo x >/data/new";
    let pod = Pod::new("copy-up", script);
    pod.configure(|config| {
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/data", "type": "tmpfs", "source": "tmpfs",
            "options": ["tmpcopyup", "size=1m"],
        }));
    });
    assert_eq!(ground.run(pod).output, "copied\n751 12 34\n");
    assert!(!ground.path("root/data/new").exists());
}

/// Layers as containerd's EROFS snapshotter has them: a lower one and an upper one.
fn layers(ground: &Ground) -> (PathBuf, PathBuf) {
    let (lower, upper) = (ground.path("lower.erofs"), ground.path("upper.erofs"));
    ground.file("root/data/both", "lower\n");
    ground.file("root/data/lower", "lower\n");
    run("mkfs.erofs", &["--quiet", text(&lower), text(&ground.path("root"))]);
    ground.file("layer/data/both", "upper\n");
    run("mknod", &[text(&ground.path("layer/data/lower")), "c", "0", "0"]);
    run("mkfs.erofs", &["--quiet", text(&upper), text(&ground.path("layer"))]);
    (lower, upper)
}

const LAYERED: &str = "cat /data/both; ls /data/lower 2>/dev/null || echo hidden; \
    echo new >/data/new && busybox rm /data/both; ls /data; \
    cat /proc/mounts | { read -r _ _ type rest; echo $type; }";

#[test]
fn erofs_layers_are_joined_in_the_guest_over_an_image_to_write_to() {
    let ground = Ground::new();
    let (lower, upper) = layers(&ground);
    let image = ground.file("rwlayer.img", "");
    std::fs::File::options().write(true).open(&image).unwrap().set_len(64 << 20).unwrap();
    run("mkfs.ext4", &["-q", text(&image)]);
    let pod = Pod::new("layers", LAYERED);
    let overlay = [
        "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
        "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
        "workdir={{ mount 0 }}/work",
        "upperdir={{ mount 0 }}/upper",
        "lowerdir={{ overlay 1 2 }}",
    ];
    let ran = pod.run(vec![
        mount("ext4", &image, &["rw", "loop", "X-containerd.mkfs.fs=ext4"]),
        mount("erofs", &upper, &["ro", "loop"]),
        mount("erofs", &lower, &["ro", "loop"]),
        mount("format/mkdir/overlay", Path::new("overlay"), &overlay),
    ]);
    assert_eq!(ran.unwrap().output, "upper\nhidden\nnew\noverlay\n");
    drop(pod);
    host::settled();
    // What was written is in the image, whole.
    let content = run("debugfs", &["-R", "cat /upper/data/new", text(&image)]);
    assert_eq!(content, "new");
}

#[test]
fn erofs_layers_get_an_image_where_the_host_has_directories_to_write_to() {
    let ground = Ground::new();
    let (lower, upper) = layers(&ground);
    let (changes, work) = (ground.dir("snapshot/fs"), ground.dir("snapshot/work"));
    let script = format!("{LAYERED}; busybox stat -c %a /");
    run("chmod", &["711", text(&changes)]);
    let pod = Pod::new("layers-dir", &script);
    let upperdir = format!("upperdir={}", text(&changes));
    let workdir = format!("workdir={}", text(&work));
    let overlay = [workdir.as_str(), upperdir.as_str(), "lowerdir={{ overlay 0 1 }}"];
    let ran = pod.run(vec![
        mount("erofs", &upper, &["ro", "loop"]),
        mount("erofs", &lower, &["ro", "loop"]),
        mount("format/mkdir/overlay", Path::new("overlay"), &overlay),
    ]);
    assert_eq!(ran.unwrap().output, "upper\nhidden\nnew\noverlay\n711\n");
    drop(pod);
    host::settled();
}

/// What a container on a snapshot of the EROFS snapshotter has as its root: containerd 2.1 mounts
/// the layers itself, later versions leave that to the runtime.
fn root_kind(version: &str) -> &'static str {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version < (2, 2) { "virtiofs" } else { "overlay" }
}

#[test]
fn snapshots_of_containerds_erofs_snapshotter_run() {
    let mut tried = 0;
    for programs in containerd::versions() {
        let daemon = Containerd::new(&programs);
        if daemon.release() < (2, 0) {
            continue;
        }
        tried += 1;
        let plugins = daemon.ctr(&["plugins", "ls"]).ok();
        let erofs =
            plugins.lines().find(|line| line.contains("snapshotter") && line.contains("erofs"));
        assert!(erofs.is_some_and(|line| line.trim_end().ends_with("ok")), "{plugins}");
        let script = "echo new >/new && cat /new; cat /proc/mounts | head -n 1";
        let fixed = ["run", "--rm", "--snapshotter", "erofs", "--runtime", RUNTIME, BUSYBOX];
        let done = daemon.ctr(&[&fixed[..], &["erofs", "sh", "-c", script]].concat());
        let output = done.ok();
        println!("containerd {}: {output}", daemon.version());
        let root = output.strip_prefix("new\n").and_then(|line| line.split(' ').nth(2));
        assert_eq!(root, Some(root_kind(daemon.version())), "{output}");
    }
    assert!(tried > 0, "no containerd with an EROFS snapshotter");
    host::settled();
}
