//! The volumes that nearly every pod has; all others are in `tests/e2e/tests/volumes.rs`.

use std::path::Path;

use harness::cri::node::any_handler;
use harness::cri::{ContainerSpec, PodSpec, api};
use harness::eventually;

#[test]
fn a_termination_message_comes_back() {
    any_handler(|node| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let pod = node.run(PodSpec::new("message"));
        let spec = ContainerSpec::shell("main", "echo it was me >/dev/termination-log; exit 1");
        let container = node.cri.start_new(&pod, spec.mount(file.path(), "/dev/termination-log"));
        assert_eq!(node.cri.exited(&container).exit_code, 1);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "it was me\n");
        node.cri.remove_pod(&pod);
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
    any_handler(|node| {
        let cri = &node.cri;
        let (scratch, map) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        publish(map.path(), 1);
        std::os::unix::fs::symlink("..data/key", map.path().join("key")).unwrap();
        let pod = node.run(PodSpec::new("volumes"));
        let spec = |name: &str| {
            let read_only = api::Mount {
                container_path: "/config".to_owned(),
                host_path: map.path().to_str().unwrap().to_owned(),
                readonly: true,
                ..Default::default()
            };
            ContainerSpec::idle(name).mount(scratch.path(), "/scratch").mounted(read_only)
        };
        let one = cri.start_new(&pod, spec("one"));
        let other = cri.start_new(&pod, spec("other"));
        cri.sh(&one, "echo from one >/scratch/file");
        assert_eq!(cri.sh(&other, "cat /scratch/file"), "from one");
        assert_eq!(std::fs::read_to_string(scratch.path().join("file")).unwrap(), "from one\n");
        let written = cri.exec_sync(&one, &["sh", "-c", "echo x >/config/key"]);
        assert!(written.stderr.contains("Read-only file system"), "{written:?}");
        assert_eq!(cri.sh(&one, "cat /config/key"), "value 1");
        publish(map.path(), 2);
        eventually("the new value is seen", || cri.sh(&one, "cat /config/key") == "value 2");
        cri.remove_pod(&pod);
    });
}
