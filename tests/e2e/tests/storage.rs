//! Root filesystems of every kind, and files that are bound into containers.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::ctr::{BUSYBOX, Name, RUNTIME, ctr};
use harness::host;
use harness::shim::{Pod, busybox_root, mount};

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn overlay_snapshot_can_be_written() {
    let name = Name::new("overlay");
    let script = "echo x >/new && cat /new && rm /bin/sh && ls /bin/sh";
    let done = name.run(&["sh", "-c", script]);
    assert!(done.stdout == "x\n" && done.code == Some(1), "{done:?}");
    host::settled();
}

#[test]
fn bind_snapshot_is_the_directory_itself() {
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path());
    let pod = Pod::new("bind", "echo written >/data/file; sync; cat /data/file");
    let ran = pod.run(vec![mount("bind", &root, &["rbind", "rw"])]).unwrap();
    assert_eq!((ran.status, ran.output.as_str()), (0, "written\n"));
    assert_eq!(std::fs::read_to_string(root.join("data/file")).unwrap(), "written\n");
    drop(pod);
    host::settled();
}

#[test]
fn read_only_bind_snapshot_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path());
    let pod = Pod::new("bind-ro", "touch /data/file || echo refused");
    let ran = pod.run(vec![mount("bind", &root, &["rbind", "ro"])]).unwrap();
    assert!(ran.output.ends_with("refused\n"), "{ran:?}");
    assert!(!root.join("data/file").exists());
    drop(pod);
    host::settled();
}

#[test]
fn disk_images_become_root_filesystems() {
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path());
    let ext4 = dir.path().join("ext4.img");
    run("truncate", &["-s", "64M", text(&ext4)]);
    run("mkfs.ext4", &["-q", "-d", text(&root), text(&ext4)]);
    let erofs = dir.path().join("erofs.img");
    run("mkfs.erofs", &["--quiet", text(&erofs), text(&root)]);
    let script = "cat /proc/mounts | { read -r _ _ type rest; echo $type; }; \
        echo kept >/data/file || echo read-only";
    let ran = |id: &str, fstype: &str, image: &Path, options: &[&str]| {
        Pod::new(id, script).run(vec![mount(fstype, image, options)]).unwrap().output
    };
    let output = ran("ext4", "ext4", &ext4, &["loop", "rw"]);
    assert_eq!(output, "ext4\n");
    let output = ran("erofs", "erofs", &erofs, &["loop", "ro"]);
    assert!(output.contains("erofs\n") && output.contains("read-only\n"), "{output}");
    // What was written is in the image after the container's end: nothing was lost.
    let again = Pod::new("ext4-2", "cat /data/file");
    let output = again.run(vec![mount("ext4", &ext4, &["loop"])]).unwrap().output;
    assert_eq!(output, "kept\n");
    drop(again);
    host::settled();
}

#[test]
fn machine_gets_more_disks_than_the_kernel_looked_for_at_boot() {
    let dir = tempfile::tempdir().unwrap();
    let image = |index: u8, root: &Path| {
        let image = dir.path().join(format!("{index}.erofs"));
        run("mkfs.erofs", &["--quiet", text(&image), text(root)]);
        mount("erofs", &image, &["loop", "ro"])
    };
    // More than 16 with the machine's own; each has a file.
    let mut layers: Vec<_> = (0..20)
        .map(|index| {
            let root = tempfile::tempdir().unwrap();
            std::fs::write(root.path().join(format!("file{index}")), index.to_string()).unwrap();
            image(index, root.path())
        })
        .collect();
    layers.push(image(20, &busybox_root(dir.path())));
    let names = ["format/mkdir/overlay", "{{ overlay 0 20 }}"];
    layers.push(mount(names[0], Path::new("overlay"), &[&format!("lowerdir={}", names[1])]));
    let pod = Pod::new("disks", "cat /file*; echo; grep -c vd /proc/partitions");
    let ran = pod.run(layers).unwrap();
    let (files, disks) = ran.output.trim().split_once('\n').unwrap();
    let mut expected: Vec<_> = (0..20).map(|index| format!("{index}")).collect();
    expected.sort();
    assert_eq!(files, expected.concat());
    assert!(disks.parse::<u8>().unwrap() >= 21, "{ran:?}");
    drop(pod);
    host::settled();
}

/// An ext4 image with a shell in it.
fn ext4_image(dir: &Path) -> PathBuf {
    let root = busybox_root(dir);
    let image = dir.join("ext4.img");
    run("truncate", &["-s", "64M", text(&image)]);
    run("mkfs.ext4", &["-q", "-d", text(&root), text(&image)]);
    image
}

/// Size in bytes of a file in an image that nobody has mounted, without its journal's help.
fn size_in(image: &Path, file: &str) -> Option<u64> {
    let request = format!("cat {file}");
    let output = Command::new("debugfs").args(["-R", &request, text(image)]).output().unwrap();
    u64::try_from(output.stdout.len()).ok().filter(|&size| size > 0)
}

const POWER_OFF: &str = "machine over: the guest powered off";

#[test]
fn what_is_written_right_before_the_exit_is_on_the_disk_and_the_machine_powers_off() {
    let dir = tempfile::tempdir().unwrap();
    let image = ext4_image(dir.path());
    let pod = Pod::new("last-write", "dd if=/dev/zero of=/data/file bs=1M count=8 2>/dev/null");
    let ran = pod.run(vec![mount("ext4", &image, &["loop", "rw"])]).unwrap();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(size_in(&image, "/data/file"), Some(8 << 20));
    let log = pod.log();
    assert!(log.contains(POWER_OFF), "{log}");
    drop(pod);
    host::settled();
}

#[test]
fn pod_that_is_cut_short_flushes_its_disk_and_powers_off() {
    let dir = tempfile::tempdir().unwrap();
    let image = ext4_image(dir.path());
    let script = "dd if=/dev/zero of=/data/file bs=1M count=8 2>/dev/null; echo done; sleep 1000";
    let pod = Pod::new("cut-short", script);
    pod.cut_short(vec![mount("ext4", &image, &["loop", "rw"])], "done");
    // The answer has come: nothing is left to be done.
    assert!(host::vmms().is_empty());
    assert_eq!(size_in(&image, "/data/file"), Some(8 << 20));
    let log = pod.log();
    assert!(log.contains(POWER_OFF), "{log}");
    drop(pod);
    host::settled();
}

#[test]
fn machine_that_has_nothing_to_write_is_stopped_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = busybox_root(dir.path());
    let pod = Pod::new("stopped", "true");
    pod.run(vec![mount("bind", &root, &["rbind", "rw"])]).unwrap();
    let log = pod.log();
    assert!(log.contains("machine over: ") && !log.contains(POWER_OFF), "{log}");
    drop(pod);
    host::settled();
}

#[test]
fn unknown_snapshot_type_is_named() {
    let pod = Pod::new("zfs", "true");
    let error = pod.run(vec![mount("zfs", Path::new("tank/x"), &[])]).unwrap_err().to_string();
    assert!(error.contains("zfs") && error.contains("not supported"), "{error}");
    drop(pod);
    host::settled();
}

#[test]
fn bundle_without_configuration_is_refused() {
    let pod = Pod::new("bundle", "true");
    std::fs::remove_file(pod.bundle().join("config.json")).unwrap();
    let error = pod.run(Vec::new()).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    drop(pod);
    host::settled();
}

#[test]
fn files_and_directories_of_the_host_are_bound() {
    let name = Name::new("volume");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "from the host\n").unwrap();
    let directory = format!("type=bind,src={},dst=/vol,options=rbind:rw", text(dir.path()));
    let file = dir.path().join("file");
    let file = format!("type=bind,src={},dst=/one,options=bind:ro", text(&file));
    let fixed = ["run", "--rm", "--mount", &directory, "--mount", &file, "--runtime", RUNTIME];
    let script = "cat /one; echo back >/vol/new; echo x >/one || echo refused";
    let done = ctr(&[&fixed[..], &[BUSYBOX, name.as_str(), "sh", "-c", script]].concat());
    assert_eq!(done.ok(), "from the host\nrefused\n");
    assert_eq!(std::fs::read_to_string(dir.path().join("new")).unwrap(), "back\n");
    host::settled();
}

#[test]
fn volume_that_does_not_exist_is_named() {
    let name = Name::new("no-volume");
    let mount = "type=bind,src=/does/not/exist,dst=/vol,options=rbind";
    let done = ctr(&[
        "run",
        "--rm",
        "--mount",
        mount,
        "--runtime",
        RUNTIME,
        BUSYBOX,
        name.as_str(),
        "true",
    ]);
    assert!(done.code != Some(0) && done.stderr.contains("/does/not/exist"), "{done:?}");
    host::settled();
}
