//! The share beside a local disk. The same operations run in a container on a volume, and on the
//! host on an ext4 file system like the volume's. Every answer is compared. [`limits`] has what is
//! known to differ.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

mod answers;
mod data;
mod end;
mod limits;
mod listing;
mod memory;
mod names;
mod rights;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::host;
use harness::shim::{Pod, busybox_root, mount};
use serde_json::json;

use answers::{Answers, MARK};

/// What all capabilities of root on a host are called; a container has the same here.
const RIGHTS: [&str; 10] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
];

/// Where the container has this program and the volume.
const PLACE: &str = "/probe";
const VOLUME: &str = "/vol";

/// What runs [`program`].
const ARGUMENTS: [&str; 4] = ["--ignored", "--exact", "program", "--nocapture"];

/// Does everything in the working directory, as root, and prints the answers.
#[test]
#[ignore = "runs in a container and on the host's disk"]
fn program() {
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut answers = Answers::default();
    let all = [names::ALL, rights::ALL, data::ALL, listing::ALL, limits::ALL];
    for (name, sequence) in all.concat() {
        answers.begin(name);
        sequence(&mut answers);
    }
    answers.print();
}

/// An ext4 file system in a file, mounted.
struct Disk(PathBuf);

impl Disk {
    fn new(dir: &Path, name: &str) -> Self {
        let (image, place) = (dir.join(format!("{name}.img")), dir.join(name));
        std::fs::File::create(&image).unwrap().set_len(48 << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-b", "4096"]).arg(&image));
        std::fs::create_dir(&place).unwrap();
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&place));
        Self(place)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The answers in a program's output.
fn answers(output: &str) -> Vec<&str> {
    let lines: Vec<_> = output.lines().filter_map(|line| line.strip_prefix(MARK)).collect();
    assert_eq!(lines.last(), Some(&"end"), "{output}");
    lines
}

/// What was done, and the two answers, of which the question may be a part.
fn differing<'a>(disk: &'a str, share: &'a str) -> (&'a str, &'a str, &'a str) {
    let (what, disk) = disk.split_once(": ").unwrap_or(("", disk));
    let same = share.strip_prefix(what).and_then(|share| share.strip_prefix(": "));
    (what, disk, same.unwrap_or(share))
}

#[test]
fn share_answers_as_a_local_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = (Disk::new(dir.path(), "disk"), Disk::new(dir.path(), "volume"));
    let this = std::env::current_exe().unwrap();
    let on_disk = run(Command::new(&this).args(ARGUMENTS).current_dir(&disk.0));

    let script = format!("cd {VOLUME} && {PLACE} {} 2>&1", ARGUMENTS.join(" "));
    let pod = Pod::new("as-a-disk", &script);
    pod.bind(&this, PLACE, &["rbind", "ro"]);
    pod.bind(&volume.0, VOLUME, &["rbind", "rw"]);
    pod.configure(|config| {
        config["process"]["capabilities"] =
            json!({"bounding": RIGHTS, "effective": RIGHTS, "permitted": RIGHTS});
        config["linux"]["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]});
    });
    let root = busybox_root(dir.path());
    let ran = pod.run(vec![mount("bind", &root, &["rbind", "rw"])]).unwrap();
    drop(pod);
    host::settled();

    let (expected, seen) = (answers(&on_disk), answers(&ran.output));
    println!("{} answers", expected.len());
    let pairs = expected.iter().zip(&seen).filter(|(disk, share)| disk != share);
    let differing: Vec<_> = pairs.map(|(disk, share)| differing(disk, share)).collect();
    assert_eq!(differing, limits::KNOWN, "differ, with the disk's answer first");
    assert_eq!(expected.len(), seen.len());
}

/// A mount of a FUSE server that is gone.
struct DeadMount(PathBuf);

impl DeadMount {
    fn new(place: PathBuf) -> Self {
        std::fs::create_dir_all(&place).unwrap();
        run(Command::new("modprobe").arg("fuse"));
        let script = "exec 9<>/dev/fuse; mount -i -t fuse \
            -o fd=9,rootmode=40000,user_id=0,group_id=0 dead \"$1\"";
        run(Command::new("sh").args(["-c", script, "sh"]).arg(&place));
        assert!(std::fs::metadata(&place).is_err(), "it answers");
        Self(place)
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

#[test]
fn what_the_host_has_is_all_there_and_sync_reaches_its_disk() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Disk::new(dir.path(), "volume");
    for name in ["a", "z"] {
        std::fs::create_dir_all(volume.0.join("list")).unwrap();
        std::fs::write(volume.0.join("list").join(name), name).unwrap();
    }
    let dead = DeadMount::new(volume.0.join("list/dead"));
    let source = run(Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&volume.0));
    let device = source.trim().trim_start_matches("/dev/");
    let script = format!(
        "cd /vol/list; echo names *; cat /vol/list/z; echo
        echo words $(cat /host/proc/loadavg | wc -w) $(busybox grep -c MemTotal /host/proc/meminfo)
        read -r first rest </host/proc/uptime; sleep 1; read -r second rest </host/proc/uptime
        [ $first != $second ] && echo uptime goes on
        first=$(cat /host/proc/uptime); sleep 1; [ \"$first\" != \"$(cat /host/proc/uptime)\" ] && echo for cat too
        echo controllers $(cat /host/cgroup/cgroup.controllers | wc -w)
        written() {{ read -r a b c d e f sectors rest </host/sys/block/{device}/stat; }}
        sync; written; before=$sectors
        dd if=/dev/zero of=/vol/large bs=1M count=24 2>/dev/null; sync; written
        [ $((sectors - before)) -ge 48000 ] && echo synced || echo only $((sectors - before)) sectors"
    )
    .replace('\n', ";");
    let pod = Pod::new("host", &script);
    for (source, destination) in
        [("/proc", "/host/proc"), ("/sys", "/host/sys"), ("/sys/fs/cgroup", "/host/cgroup")]
    {
        pod.bind(Path::new(source), destination, &["rbind", "ro"]);
    }
    pod.bind(&volume.0, VOLUME, &["rbind", "rw"]);
    let root = busybox_root(dir.path());
    let ran = pod.run(vec![mount("bind", &root, &["rbind", "rw"])]).unwrap();
    drop((pod, dead));
    host::settled();
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let controllers = controllers.split_whitespace().count();
    let expected = format!(
        "names a dead z\nz\nwords 5 1\nuptime goes on\nfor cat too\ncontrollers {controllers}\nsynced\n"
    );
    assert_eq!(ran.output, expected);
}

/// What Linux makes of a process that has acted as another user (`fs.suid_dumpable`), changed for
/// as long as the value lives.
struct Dumpable(String);

impl Dumpable {
    const PATH: &str = "/proc/sys/fs/suid_dumpable";

    fn new(value: &str) -> Self {
        let before = std::fs::read_to_string(Self::PATH).unwrap();
        std::fs::write(Self::PATH, value).unwrap();
        Self(before)
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        std::fs::write(Self::PATH, &self.0).unwrap();
    }
}

/// A program that root runs without capabilities.
fn without_rights(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", program]);
    command
}

/// Whether a process without capabilities may look into another of the same user: no, if that one
/// shall not be dumped.
fn is_open(pid: u32) -> bool {
    let output = without_rights("cat").arg(format!("/proc/{pid}/maps")).output().unwrap();
    output.status.success()
}

#[test]
fn machine_stays_closed_when_its_server_has_acted_as_another_user() {
    let _host = Dumpable::new("1");
    let mut sleeper = without_rights("sleep").arg("1000").spawn().unwrap();
    harness::eventually("another process is open", || is_open(sleeper.id()));
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let (volume, output) = (dir.path().join("volume"), dir.path().join("output"));
    std::fs::create_dir(&volume).unwrap();
    run(Command::new("chmod").arg("777").arg(&volume));
    let pod = Pod::new("closed", "touch /vol/theirs && echo made; sleep 1000");
    pod.bind(&volume, VOLUME, &["rbind", "rw"]);
    pod.configure(|config| config["process"]["user"] = json!({"uid": 1234, "gid": 1234}));
    let root = busybox_root(dir.path());
    let task = pod.start(vec![mount("bind", &root, &["rbind", "rw"])], &output);
    harness::eventually("the container has made a file", || {
        std::fs::read_to_string(&output).is_ok_and(|text| text.contains("made"))
    });
    let owner = std::os::unix::fs::MetadataExt::uid(&volume.join("theirs").metadata().unwrap());
    let open = is_open(host::vmms()[0]);
    let limit = harness::PATIENCE;
    task.kill(limit).unwrap();
    task.wait(limit).unwrap();
    task.delete(limit).unwrap();
    task.shutdown(limit).unwrap();
    drop(pod);
    host::settled();
    assert_eq!((owner, open), (1234, false));
}
