//! What a container is told about itself and its place: names, files of the resolver,
//! environment, user, capabilities.

use harness::cri::node::{any_handler, each_handler};
use harness::cri::{ContainerSpec, PodSpec, api};

#[test]
fn names_are_the_pods() {
    each_handler(|node| {
        let spec = PodSpec::new("names").hostname("chosen");
        let spec = spec.dns(&["10.96.0.10"], &["one.test", "two.test"], &["ndots:5"]);
        let pod = node.run(spec);
        let hosts = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(hosts.path(), "127.0.0.1 localhost\n192.0.2.1 somewhere\n").unwrap();
        // kubelet brings its own.
        let spec = ContainerSpec::idle("main").mount(hosts.path(), "/etc/hosts");
        let container = node.cri.start_new(&pod, spec);
        assert_eq!(node.cri.sh(&container, "hostname"), "chosen");
        assert_eq!(node.cri.sh(&container, "cat /proc/sys/kernel/hostname"), "chosen");
        assert_eq!(node.cri.sh(&container, "cat /etc/hostname"), "chosen");
        let resolver = node.cri.sh(&container, "cat /etc/resolv.conf");
        let lines: Vec<_> = resolver.lines().collect();
        assert_eq!(lines, ["search one.test two.test", "nameserver 10.96.0.10", "options ndots:5"]);
        assert!(node.cri.sh(&container, "cat /etc/hosts").contains("192.0.2.1 somewhere"));
        // kubelet writes to it later; the mount shows it.
        std::fs::write(hosts.path(), "127.0.0.1 localhost\n192.0.2.1 elsewhere\n").unwrap();
        assert!(node.cri.sh(&container, "cat /etc/hosts").contains("elsewhere"));
        // Without kubelet's, there is one all the same.
        let plain = node.cri.start_new(&pod, ContainerSpec::idle("plain"));
        assert!(node.cri.sh(&plain, "cat /etc/hosts").contains("localhost"));
        node.cri.remove_pod(&pod);
    });
}

#[test]
fn a_process_starts_as_configured() {
    any_handler(|node| {
        let pod = node.run(PodSpec::new("process").sysctl("net.core.somaxconn", "321"));
        let mut spec = ContainerSpec::idle("main").env("GREETING", "hello  world").env("EMPTY", "");
        spec.config.working_dir = "/made/for/it".to_owned();
        spec = spec.user(1000, 2000);
        let security = spec.security();
        security.supplemental_groups = vec![3000];
        security.readonly_rootfs = true;
        security.no_new_privs = true;
        let drop_capabilities = vec!["ALL".to_owned()];
        let add_capabilities = vec!["NET_BIND_SERVICE".to_owned()];
        security.capabilities =
            Some(api::Capability { add_capabilities, drop_capabilities, ..Default::default() });
        let container = node.cri.start_new(&pod, spec);
        let sh = |script: &str| node.cri.sh(&container, script);
        assert_eq!(sh("echo \"$GREETING|$EMPTY|$PWD\""), "hello  world||/made/for/it");
        assert_eq!(sh("tr '\\0' '\\n' </proc/1/environ | grep GREETING"), "GREETING=hello  world");
        assert_eq!(sh("id -u; id -g; id -G"), "1000\n2000\n2000 3000");
        assert_eq!(sh("touch /made/x 2>&1; true"), "touch: /made/x: Read-only file system");
        // Bit 10; without file capabilities, a user that is not root has none in effect.
        assert_eq!(sh("grep CapBnd /proc/1/status"), "CapBnd:\t0000000000000400");
        assert_eq!(sh("grep CapEff /proc/1/status"), "CapEff:\t0000000000000000");
        assert_eq!(sh("grep NoNewPrivs /proc/1/status"), "NoNewPrivs:\t1");
        assert_eq!(sh("cat /proc/sys/net/core/somaxconn"), "321");
        node.cri.remove_pod(&pod);
    });
}

#[test]
fn a_privileged_container_has_every_capability_and_its_own_devices() {
    any_handler(|node| {
        let mut spec = PodSpec::new("privileged");
        let linux = spec.config.linux.as_mut().unwrap();
        linux.security_context.as_mut().unwrap().privileged = true;
        let pod = node.run(spec);
        let mut spec = ContainerSpec::idle("main");
        spec.security().privileged = true;
        let container = node.cri.start_new(&pod, spec);
        let sh = |script: &str| node.cri.sh(&container, script);
        let all = sh("cat /proc/sys/kernel/cap_last_cap").parse::<u32>().unwrap();
        let expected = format!("CapEff:\t{:016x}", (1_u64 << (all + 1)) - 1);
        assert_eq!(sh("grep CapEff /proc/1/status"), expected);
        assert_eq!(sh("mount -t tmpfs none /tmp; echo $?"), "0");
        assert_eq!(
            sh("echo x >/proc/sys/kernel/domainname && cat /proc/sys/kernel/domainname"),
            "x"
        );
        node.cri.remove_pod(&pod);
    });
}
