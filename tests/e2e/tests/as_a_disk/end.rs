//! What the end of a pod writes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::host;
use harness::shim::{Pod, busybox_root, mount};

use super::memory::Page;
use super::{Disk, PLACE, VOLUME, run};

/// The word of who has something in memory.
const HOLDS: &str = "in memory";

/// Keeps a file in memory, changed and not written.
#[test]
#[ignore = "runs in a container"]
fn holder() {
    let file = File::options().read(true).write(true).open("mapped").unwrap();
    let page = Page::new(&file).unwrap();
    page.set(7, b'!');
    println!("{HOLDS}");
    loop {
        std::thread::park();
    }
}

/// Whole file systems of the host that were written, as its kernel has been asked to.
struct Syncs(PathBuf);

impl Syncs {
    fn new() -> Self {
        let tracing = Path::new("/sys/kernel/tracing");
        if !tracing.join("instances").exists() {
            run(Command::new("mount").args(["-t", "tracefs", "none"]).arg(tracing));
        }
        let place = tracing.join("instances/share");
        std::fs::create_dir(&place).unwrap();
        for call in ["sync", "syncfs"] {
            let switch = format!("events/syscalls/sys_enter_{call}/enable");
            std::fs::write(place.join(switch), "1").unwrap();
        }
        Self(place)
    }

    /// Those that the share's thread has asked for since the last call.
    fn seen(&self) -> Vec<String> {
        let trace = self.0.join("trace");
        let text = std::fs::read_to_string(&trace).unwrap();
        std::fs::write(trace, "").unwrap();
        let lines = text.lines().filter(|line| line.trim_start().starts_with("vio-fs"));
        lines.map(str::to_owned).collect()
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).unwrap();
    }
}

#[test]
fn end_of_a_pod_writes_what_the_pod_has_and_no_file_system_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Disk::new(dir.path(), "volume");
    let output = dir.path().join("output");
    std::fs::write(volume.0.join("mapped"), [b'.'; 4096]).unwrap();
    let script = format!(
        "sync; cd {VOLUME}; dd if=/dev/zero of=large bs=1M count=8 2>/dev/null
        exec {PLACE} --ignored --exact end::holder --nocapture"
    );
    let pod = Pod::new("end", &script.replace('\n', ";"));
    pod.bind(&std::env::current_exe().unwrap(), PLACE, &["rbind", "ro"]);
    pod.bind(&volume.0, VOLUME, &["rbind", "rw"]);
    let root = busybox_root(dir.path());
    let syncs = Syncs::new();
    let task = pod.start(vec![mount("bind", &root, &["rbind", "rw"])], &output);
    harness::eventually("a file is in memory", || {
        std::fs::read_to_string(&output).is_ok_and(|text| text.contains(HOLDS))
    });
    assert!(!syncs.seen().is_empty(), "the container's own is not seen");
    task.end(harness::PATIENCE).unwrap();
    // The answer has come: nothing is left to be done.
    assert!(host::vmms().is_empty());
    assert_eq!(syncs.seen(), [""; 0]);
    let mapped = std::fs::read(volume.0.join("mapped")).unwrap();
    assert_eq!((mapped.len(), mapped[7]), (4096, b'!'));
    assert_eq!(volume.0.join("large").metadata().unwrap().len(), 8 << 20);
    let log = pod.log();
    assert!(log.contains("machine over: the guest powered off"), "{log}");
    drop(pod);
    host::settled();
}
