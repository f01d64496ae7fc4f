//! Pods that start from a template, and what happens when there is none that works.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::cri::{ContainerSpec, Cuddyd, PodSpec, api};
use harness::ctr::{BUSYBOX, Name, RUNTIME, ctr};
use harness::{eventually, host};
use serde_json::Value;

const STORE: &str = "/run/cuddy/.templates";

/// Memory in MiB of a machine without limits, whose template all tests use.
const CLASS: u64 = 512;

/// `cuddy template`, and what came of it.
fn template(words: &[&str]) -> Output {
    Command::new("cuddy").arg("template").args(words).output().unwrap()
}

/// What it prints when it succeeds.
#[track_caller]
fn said(words: &[&str]) -> String {
    let done = template(words);
    assert!(done.status.success(), "{words:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// The store with one template in it, which goes with the value.
struct Stocked(PathBuf);

impl Stocked {
    fn new() -> Self {
        // What an earlier test's last pod has asked for.
        eventually("no builder is at work", || host::builders().is_empty());
        said(&["rm", "--all"]);
        said(&["create"]);
        let keys = said(&["list", "--quiet"]);
        let [key] = keys.lines().collect::<Vec<_>>()[..] else { panic!("{keys}") };
        Self(Path::new(STORE).join(key))
    }

    fn key(&self) -> &str {
        self.0.file_name().unwrap().to_str().unwrap()
    }

    /// Changes one byte of a file.
    fn damage(&self, file: &str, at: u64) {
        let file = OpenOptions::new().read(true).write(true).open(self.0.join(file)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
    }
}

impl Drop for Stocked {
    fn drop(&mut self) {
        eventually("builders end", || host::builders().is_empty());
        said(&["rm", "--all"]);
        assert!(!Path::new(STORE).exists());
    }
}

/// Whether the machine of a running container started from a template.
fn from_template(name: &Name) -> bool {
    let notes = Path::new("/run/cuddy/default").join(name.as_str()).join("timeline");
    let notes = std::fs::read_to_string(notes).unwrap();
    let ready = notes.lines().filter(|line| line.contains(" ready ")).count();
    notes.contains(" template") && ready == 1
}

/// Runs a container to see that pods start, and whether this one started from a template.
#[track_caller]
fn pod_starts() -> bool {
    let name = Name::new("pod");
    name.detach(&["sleep", "1000"]);
    assert_eq!(name.exec(&["sh", "-c", "echo works"]).ok(), "works\n");
    let from = from_template(&name);
    name.remove();
    from
}

#[test]
fn pod_from_a_template_is_as_any_other() {
    let stocked = Stocked::new();
    let before = std::fs::read(stocked.0.join("state")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "of the host").unwrap();
    let mount = format!("type=bind,src={},dst=/mnt,options=rbind:rw", directory.path().display());
    let name = Name::new("warm");
    let fixed = ["run", "-d", "--runtime", RUNTIME, "--mount", &mount, "--env", "A=b"];
    ctr(&[&fixed[..], &[BUSYBOX, name.as_str(), "sleep", "1000"]].concat()).ok();
    assert!(from_template(&name));
    let script = "cat /mnt/file; echo; echo guest > /mnt/other; nproc; echo $A; date +%s";
    let text = name.exec(&["sh", "-c", script]).ok();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..3], ["of the host", "1", "b"], "{text}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let late = now.as_secs().abs_diff(lines[3].parse().unwrap());
    assert!(late < 60, "the guest's clock is off by {late} s");
    assert_eq!(std::fs::read_to_string(directory.path().join("other")).unwrap(), "guest\n");
    assert_eq!(name.exec(&["sh", "-c", "exit 7"]).code, Some(7));
    name.remove();
    host::settled();
    assert_eq!(std::fs::read(stocked.0.join("state")).unwrap(), before);
}

#[test]
fn clones_have_names_and_randomness_of_their_own() {
    let _stocked = Stocked::new();
    let names = [Name::new("first"), Name::new("second")];
    for name in &names {
        name.detach(&["sleep", "1000"]);
        assert!(from_template(name));
    }
    for file in ["/proc/sys/kernel/random/uuid", "/proc/sys/kernel/random/boot_id"] {
        let [first, second] = names.each_ref().map(|name| name.exec(&["cat", file]).ok());
        assert_ne!(first, second, "{file}");
    }
    names.iter().for_each(Name::remove);
}

#[test]
fn clone_has_the_cpus_and_the_memory_of_its_pod() {
    let _stocked = Stocked::new();
    let name = Name::new("limits");
    let limits = ["--cpus", "2", "--memory-limit", "300000000"];
    let fixed = [&["run", "-d", "--runtime", RUNTIME][..], &limits].concat();
    ctr(&[&fixed[..], &[BUSYBOX, name.as_str(), "sleep", "1000"]].concat()).ok();
    assert!(from_template(&name), "286 MiB and the overhead are in the class of {CLASS} MiB");
    let most = std::thread::available_parallelism().unwrap().get();
    let cpus = most.min(2);
    let script = "nproc; grep -c ^processor /proc/cpuinfo";
    assert_eq!(name.exec(&["sh", "-c", script]).ok(), format!("{cpus}\n{cpus}\n"));
    // A program that reads into a buffer of this size.
    let read =
        |size: &str| name.exec(&["dd", "if=/dev/zero", "of=/dev/null", "count=1", size]).code;
    assert_eq!(read("bs=200M"), Some(0));
    assert_eq!(read("bs=350M"), Some(137), "more than the pod may use, and less than the class");
    name.remove();
}

/// The pod has a limit of its own in the guest, within the larger memory of its class.
#[test]
fn pod_may_use_more_when_its_container_may() {
    const MIB: i64 = 1 << 20;
    let _stocked = Stocked::new();
    said(&["create", "--memory", "256"]);
    let daemon = Cuddyd::quiet("");
    daemon.pull("busybox");
    let cri = daemon.cri();
    let pod = cri.run_pod(PodSpec::new("grows").resources(100 * MIB, 1000));
    let container = cri.start_new(&pod, ContainerSpec::idle("main").memory(100 * MIB));
    let notes = format!("/run/cuddy/cuddy.cri/{}/timeline", pod.id);
    assert!(std::fs::read_to_string(notes).unwrap().contains(" template"));
    let read = || {
        let program = ["dd", "if=/dev/zero", "of=/dev/null", "count=1", "bs=150M"];
        cri.exec_sync(&container, &program).code
    };
    assert_eq!(read(), 137);
    let limits = |mib: i64| api::LinuxContainerResources {
        memory_limit_in_bytes: mib * MIB,
        ..Default::default()
    };
    let refused = cri.try_update(&container, limits(1024)).unwrap_err();
    assert!(refused.message().contains("stays at 228 MiB"), "{refused}");
    assert_eq!(read(), 137, "what was refused has changed nothing");
    cri.try_update(&container, limits(200)).unwrap();
    assert_eq!(read(), 0);
    cri.remove_pod(&pod);
}

#[test]
fn first_pod_boots_and_has_the_next_start_from_a_template() {
    eventually("no builder is at work", || host::builders().is_empty());
    said(&["rm", "--all"]);
    assert!(!pod_starts(), "there is none yet");
    eventually("a template is built", || said(&["list", "--quiet"]).lines().count() == 1);
    eventually("its builder ends", || host::builders().is_empty());
    let listed: Value = serde_json::from_str(&said(&["list", "--json"])).unwrap();
    assert_eq!((&listed[0]["state"], &listed[0]["memoryMib"]), (&"ok".into(), &CLASS.into()));
    assert!(pod_starts());
    host::settled();
    said(&["rm", "--all"]);
}

#[test]
fn template_that_does_not_work_is_removed_and_the_pod_boots() {
    type Damage = (&'static str, fn(&Stocked));
    let damages: [Damage; 4] = [
        ("a byte of the state", |stocked| stocked.damage("state", 300)),
        ("a state that is cut off", |stocked| {
            std::fs::write(stocked.0.join("state"), "short").unwrap();
        }),
        ("a record", |stocked| std::fs::write(stocked.0.join("template.json"), "{").unwrap()),
        ("no memory", |stocked| std::fs::remove_file(stocked.0.join("memory")).unwrap()),
    ];
    for (what, damage) in damages {
        println!("{what}");
        let stocked = Stocked::new();
        damage(&stocked);
        let verified = template(&["verify", stocked.key()]);
        assert_eq!(verified.status.code(), Some(1), "{what}: {verified:?}");
        let text = String::from_utf8(verified.stdout).unwrap();
        assert!(text.contains(stocked.key()) && text.contains("failed"), "{what}: {text}");
        pod_starts();
        assert!(!stocked.0.exists(), "{what}");
        host::settled();
    }
}

#[test]
fn guest_that_hangs_is_replaced_by_one_that_boots() {
    let stocked = Stocked::new();
    // The kernel's text begins at 16 MiB of the guest's memory: nothing in it is what it was.
    let memory = OpenOptions::new().write(true).open(stocked.0.join("memory")).unwrap();
    let hang = [0xeb, 0xfe].repeat(1 << 20);
    for at in 8..16 {
        memory.write_all_at(&hang, at << 21).unwrap();
    }
    pod_starts();
    assert!(!stocked.0.exists());
    host::settled();
}

#[test]
fn builder_that_is_killed_leaves_nothing_that_a_pod_would_use() {
    for step in ["build", "booted", "warm", "saved", "recorded"] {
        eventually("no builder is at work", || host::builders().is_empty());
        said(&["rm", "--all"]);
        let mut builder = Command::new("cuddy").args(["template", "create"]).spawn().unwrap();
        let reached = || {
            let over = builder.try_wait().unwrap().is_some();
            over || notes().contains(&format!(" {step}\n"))
        };
        eventually(&format!("the builder is at {step}"), reached);
        builder.kill().unwrap();
        builder.wait().unwrap();
        println!("killed at {step}");
        let keys = said(&["list", "--quiet"]);
        // It may have been faster. Then what it has made is whole.
        if !keys.is_empty() {
            said(&["verify"]);
        }
        eventually("its machine ends with it", || host::processes("cuddy-vmm").is_empty());
        said(&["create"]);
        let names = std::fs::read_dir(STORE).unwrap().flatten().map(|entry| entry.file_name());
        let names: Vec<_> = names.collect();
        assert_eq!(names.len(), 1, "{names:?}");
        said(&["verify"]);
        assert!(pod_starts());
        host::settled();
    }
    said(&["rm", "--all"]);
}

/// How far the builder has come.
fn notes() -> String {
    let output = Command::new("sh").args(["-c", &format!("cat {STORE}/*/run/timeline")]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn two_builders_make_one_template() {
    said(&["rm", "--all"]);
    let build = || Command::new("cuddy").args(["template", "create", "--json"]).output().unwrap();
    let other = std::thread::spawn(build);
    let outputs = [build(), other.join().unwrap()];
    let new = outputs.iter().filter(|output| {
        assert!(output.status.success(), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        said[0]["new"] == true
    });
    assert_eq!(new.count(), 1, "{outputs:?}");
    assert_eq!(said(&["list", "--quiet"]).lines().count(), 1);
    said(&["rm", "--all"]);
}

#[test]
fn operator_can_do_without_templates() {
    said(&["rm", "--all"]);
    let _configuration = host::Configuration::new("templates = \"none\"\n");
    assert!(!pod_starts());
    assert!(host::builders().is_empty());
    let refused = template(&["create"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && text.contains("`templates` is \"none\""), "{text}");
    assert!(!Path::new(STORE).exists());
    host::settled();
}

#[test]
fn template_of_what_has_changed_is_stale_and_not_used() {
    let stocked = Stocked::new();
    let rootfs = Path::new("/opt/cuddy/share/cuddy/rootfs.erofs");
    let copy = tempfile::tempdir().unwrap();
    let copy = copy.path().join("rootfs.erofs");
    std::fs::copy(rootfs, &copy).unwrap();
    let key = stocked.key().to_owned();
    let settings = format!("rootfs = \"{}\"\n", copy.display());
    let configuration = host::Configuration::new(&settings);
    // Those of other settings stay; these have none yet.
    said(&["create"]);
    assert_eq!(said(&["list", "--quiet"]).lines().count(), 2);
    std::fs::write(copy.with_file_name("touched"), "").unwrap();
    std::fs::rename(copy.with_file_name("touched"), &copy).unwrap();
    std::fs::copy(rootfs, &copy).unwrap();
    let listed = said(&["list"]);
    assert_eq!(listed.matches("stale").count(), 1, "{listed}");
    assert!(!pod_starts(), "it must not start from the old image's");
    eventually("another is built", || said(&["list"]).matches(" ok").count() == 2);
    eventually("its builder ends", || host::builders().is_empty());
    let keys = said(&["list", "--quiet"]);
    assert!(keys.contains(&key) && keys.lines().count() == 2, "{keys}");
    drop(configuration);
    assert!(pod_starts());
    host::settled();
}

#[test]
fn words_that_name_no_template_are_refused_with_the_way_out() {
    said(&["rm", "--all"]);
    for words in [&["rm", "0123"][..], &["verify", "0123"]] {
        let refused = template(words);
        assert!(!refused.status.success());
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(text.contains("\"0123\"") && text.contains("cuddy template list"), "{text}");
    }
    let refused = template(&["create", "--memory", "99999999"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && text.contains("99999999 MiB"), "{text}");
    assert_eq!(template(&["rm"]).status.code(), Some(2));
}
