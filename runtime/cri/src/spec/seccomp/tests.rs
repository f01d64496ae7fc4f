use oci_spec::runtime::LinuxSeccompArg;

use super::*;

/// What happens to a call with this first argument: 0 for allowed, else the error number.
fn verdict(profile: &LinuxSeccomp, name: &str, first: u64) -> u32 {
    let matches = |argument: &LinuxSeccompArg| match argument.op() {
        LinuxSeccompOperator::ScmpCmpEq => first == argument.value(),
        LinuxSeccompOperator::ScmpCmpLt => first < argument.value(),
        LinuxSeccompOperator::ScmpCmpGt => first > argument.value(),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            first & argument.value() == argument.value_two().unwrap()
        }
        other => panic!("{other}"),
    };
    let rules = profile.syscalls().as_ref().unwrap().iter();
    let rule = rules.filter(|rule| rule.names().iter().any(|known| known == name));
    let mut rule = rule.filter(|rule| rule.args().iter().flatten().all(matches));
    assert_eq!(profile.default_action(), LinuxSeccompAction::ScmpActErrno);
    rule.next().map_or(1, |rule| match rule.action() {
        LinuxSeccompAction::ScmpActAllow => 0,
        _ => rule.errno_ret().unwrap(),
    })
}

fn of(capabilities: &[Capability]) -> LinuxSeccomp {
    default(&capabilities.iter().copied().collect())
}

#[test]
fn default_lets_programs_run_and_keeps_them_inside() {
    let profile = of(&[]);
    let names = "\
        read openat mmap futex execve epoll_wait statx rseq clock_gettime64 socketcall prctl \
        getrandom close_range fchmodat2 mknod setuid ptrace landlock_create_ruleset pidfd_open \
        waitpid inotify_add_watch";
    for name in names.split_whitespace() {
        assert_eq!(verdict(&profile, name, 0), 0, "{name}");
    }
    let names = "\
        mount umount2 pivot_root unshare setns bpf kexec_load init_module reboot swapon keyctl \
        add_key request_key userfaultfd io_uring_setup io_uring_enter perf_event_open \
        open_by_handle_at iopl settimeofday clock_settime quotactl acct syslog mbind chroot \
        fsopen open_tree process_madvise kcmp lookup_dcookie nfsservctl vm86 no_such_call";
    for name in names.split_whitespace() {
        assert_eq!(verdict(&profile, name, 0), 1, "{name}");
    }
}

#[test]
fn capabilities_open_their_calls() {
    for (capability, names) in [
        (Capability::SysAdmin, &["mount", "unshare", "setns", "bpf", "clone3", "syslog"][..]),
        (Capability::SysChroot, &["chroot"]),
        (Capability::SysBoot, &["reboot"]),
        (Capability::SysModule, &["init_module", "finit_module", "delete_module"]),
        (Capability::SysPtrace, &["kcmp", "pidfd_getfd", "process_madvise"]),
        (Capability::SysTime, &["settimeofday", "clock_settime", "stime"]),
        (Capability::SysRawio, &["iopl", "ioperm"]),
        (Capability::SysNice, &["mbind", "set_mempolicy"]),
        (Capability::SysPacct, &["acct"]),
        (Capability::SysTtyConfig, &["vhangup"]),
        (Capability::DacReadSearch, &["open_by_handle_at"]),
        (Capability::Syslog, &["syslog"]),
        (Capability::Bpf, &["bpf"]),
        (Capability::Perfmon, &["perf_event_open"]),
    ] {
        for name in names {
            assert_eq!(verdict(&of(&[capability]), name, 0), 0, "{name} with {capability}");
            assert_ne!(verdict(&of(&[Capability::Kill]), name, 0), 0, "{name} without");
        }
        let other = of(&[capability]);
        assert_eq!(verdict(&other, "keyctl", 0), 1);
    }
}

#[test]
fn arguments_count() {
    let (profile, admin) = (of(&[]), of(&[Capability::SysAdmin]));
    for flag in
        [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
    {
        assert_eq!(verdict(&profile, "clone", flag | 17), 1, "{flag:#x}");
        assert_eq!(verdict(&admin, "clone", flag | 17), 0, "{flag:#x}");
    }
    // What a thread of glibc asks for.
    assert_eq!(verdict(&profile, "clone", 0x3d_0f00), 0);
    assert_eq!((verdict(&profile, "clone3", 0), verdict(&admin, "clone3", 0)), (ENOSYS, 0));
    for (family, expected) in [(1, 0), (2, 0), (10, 0), (16, 0), (38, 1), (39, 0), (40, 1), (41, 0)]
    {
        assert_eq!(verdict(&profile, "socket", family), expected, "{family}");
    }
    for (personality, expected) in [(0, 0), (8, 0), (0xffff_ffff, 0), (0x4_0000, 1), (1, 1)] {
        assert_eq!(verdict(&profile, "personality", personality), expected);
    }
}

#[test]
fn rules_are_well_formed() {
    let sections = sections();
    assert_eq!(sections.iter().filter(|(capability, _)| capability.is_none()).count(), 1);
    assert_eq!(RULES.lines().filter(|line| line.starts_with('[')).count(), sections.len());
    for (capability, names) in &sections {
        let mut once = names.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), names.len(), "{capability:?} names a call twice");
        let letters =
            |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        assert!(!names.is_empty() && names.iter().all(letters), "{capability:?}");
    }
    assert!(sections[0].1.len() > 300, "{}", sections[0].1.len());
}

fn asked(
    kind: i32,
    name: &str,
    content: Option<&str>,
    privileged: bool,
) -> Result<Option<LinuxSeccomp>, String> {
    let profile = SecurityProfile { profile_type: kind, localhost_ref: name.to_owned() };
    let request = Request { profile: Some(&profile), text: "", privileged, content };
    seccomp(&request, true, &Capabilities::new()).map_err(|error| error.to_string())
}

#[test]
fn profile_of_the_node_is_read_as_it_is() {
    let content = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_NEW"],
        "comment": 1, "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": null}]}"#;
    let found = asked(2, "/p.json", Some(content), false).unwrap().unwrap();
    assert_eq!(found.architectures().as_deref(), Some(&[Arch::ScmpArchX86_64][..]));
    assert_eq!(found.syscalls().as_ref().unwrap()[0].names(), &["mkdir"]);
    assert_eq!(asked(2, "/p.json", Some("no"), true), Ok(None), "privileged");
    for (content, reason) in [
        (None, "seccomp: profile /p.json was not read"),
        (Some("{"), "seccomp: cannot load seccomp profile /p.json: EOF"),
        (Some("{}"), "seccomp: cannot load seccomp profile /p.json: missing field"),
    ] {
        let error = asked(2, "/p.json", content, false).unwrap_err();
        assert!(error.starts_with(reason), "{error}");
    }
}

#[test]
fn nobody_is_filtered_without_being_asked() {
    assert!(asked(0, "", None, false).unwrap().is_some());
    assert_eq!(asked(1, "", None, false), Ok(None));
    assert_eq!(asked(0, "", None, true), Ok(None));
    let request = Request { profile: None, text: "", privileged: false, content: None };
    assert_eq!(seccomp(&request, true, &Capabilities::new()), Ok(None));
    let request = Request { text: "runtime/default", ..request };
    let error = seccomp(&request, false, &Capabilities::new()).unwrap_err();
    assert_eq!(error.to_string(), "seccomp: seccomp is not supported on this node");
    let request = Request { text: "localhost//p.json", ..request };
    assert_eq!(localhost(&request), Ok(Some("/p.json".to_owned())));
    assert_eq!(localhost(&Request { privileged: true, ..request }), Ok(None));
}
