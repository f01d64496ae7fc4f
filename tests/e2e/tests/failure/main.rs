//! What goes wrong is reported with its reason, soon, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

mod disks;
mod pods;
mod want;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::ctr::{BUSYBOX, Done, Events, Name, RUNTIME, ctr};
use harness::eventually;
use harness::host::{self, Configuration};
use harness::shim::{self, busybox_root};

const SHARE: &str = "/opt/cuddy/share/cuddy";

/// The container must not start, for a reason that names all of `words`.
#[track_caller]
fn refused(done: &Done, words: &[&str]) {
    assert!(done.code.is_some_and(|code| code != 0), "{done:?}");
    for word in words {
        assert!(done.stderr.contains(word), "no {word:?} in {done:?}");
    }
    host::settled();
}

/// As a user would after an error: the container's record is still there.
fn forget(name: &Name) {
    ctr(&["task", "rm", "--force", name.as_str()]);
    ctr(&["container", "rm", name.as_str()]);
}

#[test]
fn missing_entrypoint_is_named_within_seconds() {
    let name = Name::new("entrypoint");
    let done = name.run(&["/does/not/exist"]);
    forget(&name);
    assert!(done.seconds < 30.0, "{done:?}");
    refused(&done, &["/does/not/exist"]);
}

#[test]
fn unknown_key_is_named_with_the_nearest_known_one() {
    let configuration = Configuration::new("kernal = '/x'\n");
    let done = Name::new("key").run(&["true"]);
    drop(configuration);
    refused(&done, &["kernal", "kernel", "/etc/cuddy/config.toml"]);
}

#[test]
fn zero_vcpus_are_refused() {
    let configuration = Configuration::new("default_vcpus = 0\n");
    let done = Name::new("vcpus").run(&["true"]);
    drop(configuration);
    refused(&done, &["default_vcpus", "1 to 32"]);
}

#[test]
fn root_image_that_is_no_erofs_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("rootfs.img");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    let configuration = Configuration::new(&format!("rootfs = '{}'\n", image.display()));
    let done = Name::new("rootfs").run(&["true"]);
    drop(configuration);
    refused(&done, &["rootfs.img", "EROFS"]);
}

#[test]
fn kernel_that_is_truncated_or_no_elf_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("vmlinux");
    let whole = std::fs::read(Path::new(SHARE).join("vmlinux")).unwrap();
    for bytes in [&whole[..1 << 20], b"#!/bin/sh\n"] {
        std::fs::write(&kernel, bytes).unwrap();
        let configuration = Configuration::new(&format!("kernel = '{}'\n", kernel.display()));
        let done = Name::new("kernel").run(&["true"]);
        drop(configuration);
        refused(&done, &["kernel"]);
    }
}

#[test]
fn memory_larger_than_the_host_is_refused_with_both_sizes() {
    let name = Name::new("memory");
    let limit = (1_u64 << 40).to_string();
    let fixed = ["run", "--rm", "--memory-limit", &limit, "--runtime", RUNTIME, BUSYBOX];
    let done = ctr(&[&fixed[..], &[name.as_str(), "true"]].concat());
    // 128 MiB more than the limit, less what the host takes for page tables.
    refused(&done, &["1040514 MiB", "the host has"]);
}

#[test]
fn killed_vmm_ends_the_task_with_137_and_everything_is_cleaned() {
    let events = Events::listen();
    let name = Name::new("vmm");
    name.detach(&["sleep", "1000"]);
    host::kill(host::vmms()[0]);
    events.until(&name, "/tasks/exit");
    assert_eq!(name.state().as_deref(), Some("STOPPED"));
    name.remove_killed();
}

#[test]
fn killed_shim_is_noticed_and_everything_is_cleaned() {
    let events = Events::listen();
    let name = Name::new("shim");
    name.detach(&["sleep", "1000"]);
    host::kill(host::shims()[0]);
    events.until(&name, "/tasks/exit");
    ctr(&["container", "rm", name.as_str()]).ok();
    host::settled();
}

#[test]
fn panic_of_the_guest_kernel_ends_the_task_with_137_and_is_logged() {
    let events = Events::listen();
    let name = Name::new("panic");
    let fixed = ["run", "--detach", "--privileged", "--runtime", RUNTIME, BUSYBOX, name.as_str()];
    let script = "sleep 1; mount -o remount,rw /proc/sys 2>/dev/null; echo c >/proc/sysrq-trigger";
    ctr(&[&fixed[..], &["sh", "-c", script]].concat()).ok();
    events.until(&name, "/tasks/exit");
    name.remove_killed();
    let log = std::fs::read_to_string("/var/log/containerd.log").unwrap_or_default();
    let reason = log
        .lines()
        .find(|line| line.contains("the guest kernel panicked") && line.contains(name.as_str()));
    let reason = reason.unwrap_or_else(|| panic!("no reason in the log:\n{log}"));
    assert!(reason.contains("Kernel panic - not syncing: sysrq triggered crash"), "{reason}");
}

#[test]
fn container_that_takes_too_much_memory_is_killed_and_that_is_told_first() {
    let events = Events::listen();
    let name = Name::new("oom");
    let limit = (32 << 20).to_string();
    let fixed = ["run", "--rm", "--memory-limit", &limit, "--runtime", RUNTIME, BUSYBOX];
    // The buffer is written to, so its pages are taken.
    let greedy = ["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"];
    let done = ctr(&[&fixed[..], &[name.as_str()], &greedy].concat());
    assert_eq!(done.code, Some(137), "{done:?}");
    let seen = events.until(&name, "/tasks/exit");
    let topics: Vec<_> = seen.iter().map(|(topic, _)| topic.as_str()).collect();
    let expected = ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit"];
    assert_eq!(topics, expected, "{seen:#?}");
    assert!(seen[3].1.contains("137"), "{seen:#?}");
    host::settled();
}

#[test]
fn every_want_of_memory_is_told_and_the_container_may_go_on() {
    let events = Events::listen();
    let name = Name::new("greedy");
    let limit = (32 << 20).to_string();
    let fixed = ["run", "--rm", "--memory-limit", &limit, "--runtime", RUNTIME, BUSYBOX];
    // Three at once, which may be told together, then one more.
    let greed = "dd if=/dev/zero of=/dev/null bs=100M count=1";
    let script = format!("for n in 1 2 3; do {greed}; done; sleep 3; {greed}; exit 7");
    let done = ctr(&[&fixed[..], &[name.as_str(), "sh", "-c", &script]].concat());
    assert_eq!(done.code, Some(7), "{done:?}");
    let seen = events.until(&name, "/tasks/exit");
    let told = seen.iter().filter(|(topic, _)| topic == "/tasks/oom").count();
    assert!((2..=4).contains(&told), "{seen:#?}");
    let last: Vec<_> = seen.iter().rev().take(2).map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(last, ["/tasks/exit", "/tasks/oom"], "{seen:#?}");
    host::settled();
}

/// A filesystem in which whoever writes waits, and can't be killed, until it is thawed.
struct Frozen {
    dir: tempfile::TempDir,
    thawed: bool,
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
}

impl Frozen {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let frozen = Self { dir, thawed: true };
        std::fs::create_dir(frozen.path()).unwrap();
        run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        run("mount", &["-o", "loop", image.to_str().unwrap(), &frozen.path()]);
        frozen
    }

    fn path(&self) -> String {
        self.dir.path().join("mount").display().to_string()
    }

    fn freeze(&mut self) {
        run("fsfreeze", &["--freeze", &self.path()]);
        self.thawed = false;
    }

    fn thaw(&mut self) {
        if !std::mem::replace(&mut self.thawed, true) {
            run("fsfreeze", &["--unfreeze", &self.path()]);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
        let _gone = Command::new("umount").args(["--lazy", &self.path()]).status();
    }
}

#[test]
fn container_that_can_not_be_killed_goes_with_its_machine() {
    let events = Events::listen();
    let name = Name::new("stuck");
    let mut frozen = Frozen::new();
    let volume = format!("type=bind,src={},dst=/data,options=rbind:rw", frozen.path());
    let fixed = ["run", "--detach", "--mount", &volume, "--runtime", RUNTIME, BUSYBOX];
    let script = "while :; do echo x >/data/file; sleep 0.1; done";
    ctr(&[&fixed[..], &[name.as_str(), "sh", "-c", script]].concat()).ok();
    let file = Path::new(&frozen.path()).join("file");
    eventually("it has written", || file.exists());
    frozen.freeze();
    // It is at its next word by then, and waits for the host.
    std::thread::sleep(Duration::from_secs(2));
    let since = Instant::now();
    ctr(&["task", "kill", "--signal", "SIGKILL", name.as_str()]).ok();
    let log = || std::fs::read_to_string("/var/log/containerd.log").unwrap_or_default();
    let reason = format!("container {} goes on 30 s after SIGKILL", name.as_str());
    eventually(&reason, || log().contains(&reason));
    let waited = since.elapsed();
    assert!(waited > Duration::from_secs(25), "{waited:?}");
    // The machine's process, too, waits for the host.
    frozen.thaw();
    events.until(&name, "/tasks/exit");
    name.remove_killed();
}

#[test]
fn killed_container_whose_output_is_read_slowly_does_not_take_its_machine_with_it() {
    let events = Events::listen();
    let name = Name::new("slowly");
    let dir = tempfile::tempdir().unwrap();
    let (logger, enough) = (dir.path().join("logger"), dir.path().join("enough"));
    let script = format!(
        "#!/bin/sh\n\
         exec 5>&-\n\
         while [ ! -e {} ]; do dd bs=4096 count=1 <&3 >/dev/null 2>&1; sleep 2; done\n\
         exec cat <&3 >/dev/null\n",
        enough.display()
    );
    std::fs::write(&logger, script).unwrap();
    run("chmod", &["+x", logger.to_str().unwrap()]);
    let uri = format!("binary://{}", logger.display());
    let fixed = ["run", "--detach", "--log-uri", &uri, "--runtime", RUNTIME, BUSYBOX];
    ctr(&[&fixed[..], &[name.as_str(), "yes"]].concat()).ok();
    // All that can hold output is full by then.
    std::thread::sleep(Duration::from_secs(5));
    ctr(&["task", "kill", "--signal", "SIGKILL", name.as_str()]).ok();
    std::thread::sleep(Duration::from_secs(40));
    let log = std::fs::read_to_string("/var/log/containerd.log").unwrap_or_default();
    assert!(!log.contains(&format!("container {} goes on", name.as_str())), "{log}");
    assert_eq!(name.state().as_deref(), Some("RUNNING"), "its output is still on its way");
    std::fs::write(&enough, "").unwrap();
    events.until(&name, "/tasks/exit");
    name.remove_killed();
}

#[test]
fn paused_container_takes_no_exec_and_can_be_killed() {
    let events = Events::listen();
    let name = Name::new("paused");
    name.detach(&["sleep", "1000"]);
    ctr(&["task", "pause", name.as_str()]).ok();
    let done = name.exec(&["true"]);
    assert!(done.code != Some(0) && done.stderr.contains("is paused"), "{done:?}");
    assert!(done.seconds < 20.0, "{done:?}");
    ctr(&["task", "kill", "--signal", "SIGKILL", name.as_str()]).ok();
    events.until(&name, "/tasks/exit");
    name.remove_killed();
}

#[test]
fn container_whose_maker_has_gone_is_removed_and_its_name_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path());
    let pod = shim::Pod::new("abandoned", "echo there");
    let rootfs = || vec![shim::mount("bind", &root, &["rbind", "rw"])];
    pod.abandon(rootfs());
    let mut log = String::new();
    eventually("the shim has noticed", || {
        log += &pod.log();
        log.contains("whoever asked for container abandoned has gone")
    });
    eventually("its name is free", || pod.run(rootfs()).is_ok_and(|ran| ran.output == "there\n"));
    drop(pod);
    host::settled();
}
