//! Limits, what happens at them, and what is told of use.

use std::os::unix::fs::MetadataExt;

use harness::cri::node::{any_handler, each_handler};
use harness::cri::{ContainerSpec, PodSpec};
use harness::host;

const MIB: i64 = 1 << 20;

fn score(pid: u32) -> i32 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn machine_and_shim_are_charged_to_the_pod_and_rank_with_it() {
    each_handler(|node| {
        let spec = PodSpec::new("charged").resources(128 * MIB, 1000);
        let parent = spec.config.linux.as_ref().unwrap().cgroup_parent.clone();
        let pod = node.run(spec);
        let (vmms, shims) = (host::vmms(), host::shims());
        assert_eq!((vmms.len(), shims.len()), (1, 1));
        for pid in [vmms[0], shims[0]] {
            let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            let below = cgroup.trim().strip_prefix("0::").is_some_and(|at| at.starts_with(&parent));
            assert!(below, "{cgroup} is not below {parent}");
        }
        // The shim is a little less precious than containerd, which is of this process's kind; the
        // machine as a pause process, and then as the most precious of its containers.
        assert_eq!(score(shims[0]), score(std::process::id()) + 1);
        assert_eq!(score(vmms[0]), -998);
        for (name, own, machine) in
            [("burstable", 900, 900), ("guaranteed", -997, -997), ("best", 1000, -997)]
        {
            let mut spec = ContainerSpec::idle(name);
            spec.limits().oom_score_adj = own;
            let container = node.cri.start_new(&pod, spec);
            assert_eq!(node.cri.sh(&container, "cat /proc/1/oom_score_adj"), own.to_string());
            assert_eq!(score(vmms[0]), machine, "{name}");
        }
        node.cri.remove_pod(&pod);
    });
}

/// What leads a VMM that its guest has taken over to what all pods read.
#[test]
fn machine_can_write_no_image_and_name_no_process() {
    any_handler(|node| {
        let pod = node.run(PodSpec::new("bounds"));
        node.cri.start_new(&pod, ContainerSpec::idle("main"));
        let vmm = host::vmms()[0];
        let status = std::fs::read_to_string(format!("/proc/{vmm}/status")).unwrap();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        assert_eq!(numbers.split_whitespace().last(), Some("1"), "{numbers}");
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
        assert_ne!(namespace(&vmm.to_string()), namespace("self"));
        let cgroup = std::fs::read_to_string(format!("/proc/{vmm}/cgroup")).unwrap();
        let limit = format!("/sys/fs/cgroup/{}/pids.max", cgroup.trim().trim_start_matches("0::/"));
        let limit = std::fs::read_to_string(limit).unwrap();
        assert!(limit.trim().parse::<u32>().is_ok(), "nobody else bounds threads: {limit}");
        let image = std::fs::metadata("/opt/cuddy/share/cuddy/rootfs.erofs").unwrap();
        let same = |link: &std::path::PathBuf| {
            let file = std::fs::metadata(link);
            file.is_ok_and(|file| (file.dev(), file.ino()) == (image.dev(), image.ino()))
        };
        let links = std::fs::read_dir(format!("/proc/{vmm}/fd")).unwrap();
        let links: Vec<_> = links.map(|link| link.unwrap().path()).filter(same).collect();
        assert!(!links.is_empty(), "the VMM has the guest's root image");
        for link in links {
            let error = std::fs::OpenOptions::new().write(true).open(&link).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{error}");
        }
        node.cri.remove_pod(&pod);
    });
}
