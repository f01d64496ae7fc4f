//! A disk of the host that does not answer, and a host that shuts down: what the shim still does.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::shim::{Pod, Status, busybox_root, mount};
use harness::{eventually, host};
use serde_json::{Value, json};

/// Any call that does no work may take this long here.
const SOON: Duration = Duration::from_secs(10);

/// What takes the longest: a guest that does not end its process, a VMM that does not end.
const LONG: Duration = Duration::from_secs(90);

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A disk of the host.
struct Disk(String);

impl Disk {
    fn new(dir: &Path) -> Self {
        let image = dir.join("disk.img");
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        Self(run("losetup", &["--find", "--show", image.to_str().unwrap()]))
    }
}

impl Disk {
    /// What of a configuration gives a container the disk.
    fn at(&self, path: &str) -> (Value, Value) {
        let name = self.0.trim_start_matches("/dev/");
        let numbers = std::fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap();
        let (major, minor) = numbers.trim().split_once(':').unwrap();
        let (major, minor): (u32, u32) = (major.parse().unwrap(), minor.parse().unwrap());
        let rule = json!({
            "allow": true, "type": "b", "major": major, "minor": minor, "access": "rwm"
        });
        (json!({"type": "b", "path": path, "major": major, "minor": minor}), rule)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("losetup", &["--detach", &self.0]);
    }
}

/// A mounted filesystem of the host that can be made not to answer.
struct Volume {
    path: PathBuf,
    frozen: bool,
    _disk: Disk,
}

impl Volume {
    fn new(dir: &Path) -> Self {
        let disk = Disk::new(dir);
        let path = dir.join("volume");
        std::fs::create_dir(&path).unwrap();
        run("mkfs.ext4", &["-q", &disk.0]);
        run("mount", &[&disk.0, path.to_str().unwrap()]);
        Self { path, frozen: false, _disk: disk }
    }

    /// From now on whoever writes to it waits, and can't be killed.
    fn freeze(&mut self) {
        run("fsfreeze", &["--freeze", self.path.to_str().unwrap()]);
        self.frozen = true;
    }

    fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            run("fsfreeze", &["--unfreeze", self.path.to_str().unwrap()]);
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.thaw();
        run("umount", &["--lazy", self.path.to_str().unwrap()]);
    }
}

/// Whether a thread of the process waits in the kernel and can't be killed.
fn hangs(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let mut stats =
        threads.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    stats.any(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" D")))
}

#[test]
fn block_volume_is_written_when_the_host_shuts_down() {
    let dir = tempfile::tempdir().unwrap();
    let (root, disk) = (busybox_root(dir.path()), Disk::new(dir.path()));
    // The guest's kernel would write what it holds in memory when the last file is closed.
    let script = "exec 3<>/dev/volume; \
                  /bin/busybox yes precious | dd bs=9000 count=400 iflag=fullblock >&3; \
                  echo written; exec sleep 1000";
    let pod = Pod::new("signalled", script);
    pod.configure(|config| {
        let (device, rule) = disk.at("/dev/volume");
        config["linux"]["devices"] = json!([device]);
        config["linux"]["resources"] =
            json!({"devices": [{"allow": false, "access": "rwm"}, rule]});
    });
    let output = dir.path().join("output");
    let _task = pod.start(vec![mount("bind", &root, &["rbind"])], &output);
    eventually("the volume is written", || {
        std::fs::read_to_string(&output).is_ok_and(|text| text.contains("written"))
    });
    // As systemd does it, to all processes.
    for process in host::shims().into_iter().chain(host::vmms()) {
        run("kill", &["-TERM", &process.to_string()]);
    }
    host::settled();
    let mut seen = vec![0; 9 * 400_000];
    std::fs::File::open(&disk.0).unwrap().read_exact(&mut seen).unwrap();
    let lost = seen.chunks(9).filter(|line| line != b"precious\n").count();
    assert_eq!(lost, 0, "{}", pod.log());
}

#[test]
fn log_on_a_disk_that_does_not_answer_stops_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut volume) = (busybox_root(dir.path()), Volume::new(dir.path()));
    let pod = Pod::new("logs", "while echo a line of some length; do :; done");
    let output = volume.path.join("output");
    let task = pod.start(vec![mount("bind", &root, &["rbind"])], &output);
    eventually("something is logged", || output.metadata().is_ok_and(|file| file.len() > 0));
    volume.freeze();
    let shim = host::shims()[0];
    eventually("the log's disk does not answer", || hangs(shim));
    let begin = Instant::now();
    // Longer than a guest that is not asked whether it lives would be left alone.
    while begin.elapsed() < Duration::from_secs(10) {
        assert_eq!(task.state(SOON).unwrap().0, Status::RUNNING);
    }
    task.kill(SOON).unwrap();
    assert_eq!(task.wait(LONG).unwrap(), 137);
    task.delete(SOON).unwrap();
    task.shutdown(LONG).unwrap();
    volume.thaw();
    host::settled();
}

#[test]
fn vmm_that_no_signal_can_end_is_told_and_holds_up_no_call() {
    let dir = tempfile::tempdir().unwrap();
    let (root, mut volume) = (busybox_root(dir.path()), Volume::new(dir.path()));
    let script = "while echo line >>/data/file; do echo x; done";
    let pod = Pod::new("hangs", script);
    pod.bind(&volume.path, "/data", &["rbind", "rw"]);
    let output = dir.path().join("output");
    let task = pod.start(vec![mount("bind", &root, &["rbind"])], &output);
    eventually("something is written", || volume.path.join("file").exists());
    volume.freeze();
    let vmm = host::vmms()[0];
    eventually("the volume's disk does not answer", || hangs(vmm));
    task.state(SOON).unwrap();
    // It may find that the container has gone with its machine.
    let killed = task.kill(LONG);
    assert_eq!(task.wait(LONG).unwrap(), 137, "{killed:?}");
    task.delete(LONG).unwrap();
    task.shutdown(LONG).unwrap();
    let log = pod.log();
    assert!(log.contains(&format!("its process {vmm} was killed and does not end")), "{log}");
    assert!(log.contains(&format!("process {vmm} was killed and does not end")), "{log}");
    assert!(Path::new(&format!("/proc/{vmm}")).exists());
    volume.thaw();
    drop(pod);
    host::settled();
}
