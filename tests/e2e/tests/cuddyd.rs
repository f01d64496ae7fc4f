//! Our own daemon, as a kubelet uses it: images, pods, containers, restarts.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::path::Path;

use harness::cri::api::{self, ContainerState};
use harness::cri::{Container, ContainerSpec, Cri, Cuddyd, PodSpec};
use harness::eventually;
use tempfile::TempDir;

fn status(cri: &Cri, container: &Container) -> api::ContainerStatus {
    let container_id = container.id.clone();
    let request = api::ContainerStatusRequest { container_id, verbose: false };
    let mut runtime = cri.runtime_service();
    cri.wait(runtime.container_status(request)).unwrap().status.unwrap()
}

fn log_of(pod: &harness::cri::Pod, name: &str) -> String {
    let path = Path::new(&pod.config.log_directory).join(format!("{name}-0.log"));
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn pod_lives_and_ends_without_another_daemon() {
    let daemon = Cuddyd::new();
    let cri = daemon.cri();
    let image = daemon.pull("busybox");
    assert!(image.starts_with("sha256:"), "{image}");
    let pod = cri.run_pod(PodSpec::new("first"));
    let script = "echo hello; trap 'echo bye; exit 3' TERM; while :; do sleep 1000 & wait $!; done";
    let container = cri.start_new(&pod, ContainerSpec::shell("main", script));
    assert_eq!(cri.exec_sync(&container, &["echo", "there"]).ok(), "there\n");
    assert_eq!(status(&cri, &container).state(), ContainerState::ContainerRunning);
    eventually("the log has the first line", || log_of(&pod, "main").contains("stdout F hello\n"));
    cri.stop(&container, 20);
    let ended = status(&cri, &container);
    assert_eq!((ended.state(), ended.exit_code), (ContainerState::ContainerExited, 3));
    assert!(log_of(&pod, "main").contains("stdout F bye\n"));
    assert_eq!(ended.image_ref, image);
    cri.remove(&container);
    cri.remove_pod(&pod);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

#[test]
fn pods_outlive_the_daemon() {
    let mut daemon = Cuddyd::new();
    daemon.pull("busybox");
    let pod = daemon.cri().run_pod(PodSpec::new("stays"));
    let stays = daemon.cri().start_new(&pod, ContainerSpec::idle("stays"));
    let ends = ContainerSpec::shell("ends", "until [ -e /go ]; do sleep 0.1; done; exit 7");
    let ends = daemon.cri().start_new(&pod, ends);
    let before = status(&daemon.cri(), &stays);
    let touch = "(sleep 5; touch /go) >/dev/null 2>&1 &";
    daemon.cri().exec_sync(&ends, &["sh", "-c", touch]).ok();
    daemon.kill();
    daemon.start();
    let cri = daemon.cri();
    assert_eq!(status(&cri, &stays), before);
    assert_eq!(cri.exec_sync(&stays, &["echo", "there"]).ok(), "there\n");
    eventually("the end is known", || {
        status(&cri, &ends).state() == ContainerState::ContainerExited
    });
    assert_eq!(status(&cri, &ends).exit_code, 7);
    cri.remove_pod(&pod);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

/// Users and groups that no image of the lab has.
struct Accounts(TempDir);

impl Accounts {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n";
        std::fs::write(dir.path().join("passwd"), passwd).unwrap();
        let group = "root:x:0:\nlogs:x:50:web\nweb:x:1001:web\nops:x:60:root\n";
        std::fs::write(dir.path().join("group"), group).unwrap();
        Self(dir)
    }

    /// A container that stays and has them.
    fn container(&self, name: &str) -> ContainerSpec {
        let path = |file: &str| self.0.path().join(file);
        ContainerSpec::idle(name)
            .mount_read_only(&path("passwd"), "/etc/passwd")
            .mount_read_only(&path("group"), "/etc/group")
    }
}

/// One way to ask for a user, and who that is: uid, gid, all groups.
struct Asked {
    name: &'static str,
    ids: Option<(i64, Option<i64>)>,
    merge: bool,
    is: (i64, i64, &'static [i64]),
}

#[test]
fn users_are_looked_up_in_the_container_and_told_in_its_status() {
    let daemon = Cuddyd::new();
    daemon.pull("busybox");
    let (cri, accounts) = (daemon.cri(), Accounts::new());
    let pod = cri.run_pod(PodSpec::new("users"));
    let asked = [
        Asked { name: "web", ids: None, merge: true, is: (1000, 1001, &[7, 50, 1001]) },
        Asked { name: "web", ids: None, merge: false, is: (1000, 1001, &[7, 1001]) },
        Asked { name: "", ids: Some((1000, None)), merge: true, is: (1000, 1001, &[7, 50, 1001]) },
        Asked { name: "", ids: Some((1000, Some(9))), merge: true, is: (1000, 9, &[7, 9, 50]) },
        Asked { name: "", ids: Some((5, Some(9))), merge: false, is: (5, 9, &[7, 9]) },
        Asked { name: "", ids: None, merge: true, is: (0, 0, &[0, 7, 60]) },
    ];
    for (number, Asked { name, ids, merge, is: (uid, gid, groups) }) in
        asked.into_iter().enumerate()
    {
        let mut spec = accounts.container(&format!("c{number}"));
        let security = spec.security();
        name.clone_into(&mut security.run_as_username);
        security.run_as_user = ids.map(|(value, _)| api::Int64Value { value });
        security.run_as_group = ids.and_then(|(_, gid)| gid).map(|value| api::Int64Value { value });
        security.supplemental_groups = vec![7];
        security.set_supplemental_groups_policy(match merge {
            true => api::SupplementalGroupsPolicy::Merge,
            false => api::SupplementalGroupsPolicy::Strict,
        });
        let container = cri.start_new(&pod, spec);
        let user = status(&cri, &container).user.unwrap().linux.unwrap();
        assert_eq!((user.uid, user.gid, user.supplemental_groups.as_slice()), (uid, gid, groups));
        // Both the container's process and an exec are who the status says.
        let script = "for p in 1 self; do grep -E '^(Uid|Gid|Groups):' /proc/$p/status | tr -s '\t ' ' '; done";
        let all: String = groups.iter().map(|group| format!("{group} ")).collect();
        let one =
            format!("Uid: {uid} {uid} {uid} {uid}\nGid: {gid} {gid} {gid} {gid}\nGroups: {all}\n");
        assert_eq!(cri.exec_sync(&container, &["sh", "-c", script]).ok(), one.repeat(2));
    }
    for (name, text) in [("ghost", "user \"ghost\": not in /etc/passwd"), ("0:0", "no colon")] {
        let mut spec = accounts.container("refused");
        name.clone_into(&mut spec.security().run_as_username);
        let refused = cri.try_create(&pod, spec).unwrap_err();
        assert!(refused.message().contains(text), "{refused}");
    }
    cri.remove_pod(&pod);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

fn image_mount(image: &str, container_path: &str, sub_path: &str) -> api::Mount {
    let image = api::ImageSpec { image: image.to_owned(), ..api::ImageSpec::default() };
    api::Mount {
        container_path: container_path.to_owned(),
        readonly: true,
        image: Some(image),
        image_sub_path: sub_path.to_owned(),
        ..api::Mount::default()
    }
}

/// What critest looks for as well (cri-tools, `pkg/validate/image_volume.go`).
#[test]
fn image_is_a_volume_that_nothing_can_be_written_to() {
    let daemon = Cuddyd::new();
    let cri = daemon.cri();
    let image = daemon.pull("busybox");
    let pod = cri.run_pod(PodSpec::new("volumes"));
    let mut spec = ContainerSpec::idle("main");
    spec.config.mounts =
        vec![image_mount(&image, "/whole", ""), image_mount(&image, "/part", "etc")];
    let container = cri.start_new(&pod, spec);
    assert_eq!(cri.sh(&container, "/whole/bin/busybox echo runs"), "runs");
    assert_eq!(cri.sh(&container, "cmp /whole/etc/passwd /part/passwd && echo same"), "same");
    let written = cri.exec_sync(&container, &["touch", "/whole/new"]);
    assert!(written.code != 0 && written.stderr.contains("Read-only"), "{written:?}");
    let told = cri.status(&container).mounts;
    let refs: Vec<_> = told.iter().filter_map(|mount| mount.image.as_ref()).collect();
    assert!(refs.len() == 2 && refs.iter().all(|told| told.image_ref == image), "{refs:?}");
    let refused = |mount: api::Mount| {
        let mut spec = ContainerSpec::idle("refused");
        spec.config.mounts = vec![mount];
        cri.try_create(&pod, spec).unwrap_err().message().to_owned()
    };
    let writable = api::Mount { readonly: false, ..image_mount(&image, "/data", "") };
    for mount in [
        image_mount(&image, "/data", "not-existing"),
        image_mount(&image, "/data", "etc/passwd"),
        image_mount(&image, "/data", "../etc"),
        image_mount("registry.test/nowhere:1", "/data", ""),
        writable,
    ] {
        let text = refused(mount.clone());
        assert!(text.starts_with("ImageVolumeMountFailed"), "{mount:?}: {text}");
    }
    cri.remove_pod(&pod);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

/// What critest looks for as well (cri-tools, `pkg/validate/pod.go`).
#[test]
fn metrics_of_a_pod_are_those_that_are_announced() {
    let daemon = Cuddyd::new();
    let cri = daemon.cri();
    daemon.pull("busybox");
    let pod = cri.run_pod(PodSpec::new("measured"));
    let container = cri.start_new(&pod, ContainerSpec::idle("main"));
    cri.sh(&container, "for i in 1 2 3; do echo hi > /var/file$i; done; sync");
    let mut runtime = cri.runtime_service();
    let announced = cri.wait(runtime.list_metric_descriptors(api::ListMetricDescriptorsRequest {}));
    let announced = announced.unwrap().descriptors;
    let told = cri.wait(runtime.list_pod_sandbox_metrics(api::ListPodSandboxMetricsRequest {}));
    let told = told.unwrap().pod_metrics.remove(0);
    let all: Vec<_> =
        told.container_metrics.iter().flat_map(|one| &one.metrics).chain(&told.metrics).collect();
    for metric in &all {
        let known = announced.iter().find(|known| known.name == metric.name);
        let labels = known.map(|known| known.label_keys.len());
        assert_eq!(labels, Some(metric.label_values.len()), "{metric:?}");
    }
    let value = |name: &str| {
        let metric = all.iter().find(|metric| metric.name == name);
        metric.and_then(|metric| metric.value).unwrap_or_else(|| panic!("no {name}")).value
    };
    assert!(value("container_memory_usage_bytes") > 0);
    assert!(value("container_processes") >= 1 && value("container_file_descriptors") >= 1);
    assert!(value("container_fs_inodes_free") < value("container_fs_inodes_total"));
    assert!(value("container_fs_usage_bytes") > 0 && value("container_start_time_seconds") > 0);
    assert!(value("container_network_receive_packets_total") < u64::MAX);
    cri.remove_pod(&pod);
}
