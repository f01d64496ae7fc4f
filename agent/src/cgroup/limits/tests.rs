use super::settings;

fn of_when(json: &str, cpu_max: &str) -> Vec<(String, String)> {
    let resources = serde_json::from_str(json).unwrap();
    let settings = settings(&resources, cpu_max).unwrap().into_iter();
    settings.map(|setting| (setting.file, setting.value)).collect()
}

fn of(json: &str) -> Vec<(String, String)> {
    of_when(json, "max 100000")
}

fn refused(json: &str) -> bool {
    settings(&serde_json::from_str(json).unwrap(), "").is_err()
}

fn list(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn cpu_shares_become_weights() {
    // The values that the conversion of runc gives.
    let known = [(1, "1"), (2, "1"), (512, "59"), (1024, "100"), (2048, "174"), (262_144, "10000")];
    for (shares, weight) in known {
        let json = format!(r#"{{"cpu":{{"shares":{shares}}}}}"#);
        assert_eq!(of(&json), list(&[("cpu.weight", weight)]), "{shares}");
    }
    assert!(of(r#"{"cpu":{"shares":0}}"#).is_empty());
}

#[test]
fn idle_excludes_a_weight() {
    let idle = r#"{"cpu":{"shares":1024,"idle":1}}"#;
    assert_eq!(of(idle), list(&[("cpu.idle", "1")]));
    let busy = r#"{"cpu":{"shares":1024,"idle":0}}"#;
    assert_eq!(of(busy), list(&[("cpu.idle", "0"), ("cpu.weight", "100")]));
}

#[test]
fn quota_and_period_share_a_file() {
    for (cpu, now, value) in [
        (r#"{"quota":50000}"#, "max 100000", "50000"),
        (r#"{"quota":-1,"period":20000}"#, "max 100000", "max 20000"),
        (r#"{"quota":0}"#, "max 100000", "max"),
        (r#"{"period":20000}"#, "7000 100000\n", "7000 20000"),
        (r#"{"period":20000}"#, "", "max 20000"),
        (r#"{"quota":9000,"period":20000}"#, "7000 100000", "9000 20000"),
    ] {
        let found = of_when(&format!(r#"{{"cpu":{cpu}}}"#), now);
        assert_eq!(found, list(&[("cpu.max", value)]), "{cpu}");
    }
}

#[test]
fn burst_is_set_on_both_sides_of_the_quota() {
    let both = of(r#"{"cpu":{"quota":50000,"burst":20000}}"#);
    let burst = ("cpu.max.burst", "20000");
    assert_eq!(both, list(&[burst, ("cpu.max", "50000"), burst]));
    assert_eq!(of(r#"{"cpu":{"burst":20000}}"#), list(&[burst]));
}

#[test]
fn swap_is_without_memory_in_version_2() {
    for (memory, expected) in [
        (
            r#"{"limit":100,"swap":150,"reservation":50}"#,
            &[("memory.swap.max", "50"), ("memory.max", "100"), ("memory.low", "50")][..],
        ),
        (r#"{"limit":100,"swap":100}"#, &[("memory.swap.max", "0"), ("memory.max", "100")]),
        (r#"{"limit":100,"swap":-1}"#, &[("memory.swap.max", "max"), ("memory.max", "100")]),
        (r#"{"limit":-1}"#, &[("memory.swap.max", "max"), ("memory.max", "max")]),
        (r#"{"limit":-1,"swap":70}"#, &[("memory.swap.max", "70"), ("memory.max", "max")]),
        (r#"{"swap":-1}"#, &[("memory.swap.max", "max")]),
        (r#"{"limit":0,"swap":0,"reservation":0}"#, &[]),
        (r#"{"limit":100}"#, &[("memory.max", "100")]),
    ] {
        assert_eq!(of(&format!(r#"{{"memory":{memory}}}"#)), list(expected), "{memory}");
    }
    assert!(refused(r#"{"memory":{"limit":100,"swap":50}}"#));
    assert!(refused(r#"{"memory":{"limit":-2,"swap":50}}"#));
    assert!(refused(r#"{"memory":{"swap":50}}"#));
}

#[test]
fn pids_and_huge_pages() {
    for (limit, value) in [("7", "7"), ("-1", "max"), ("0", "1")] {
        let json = format!(r#"{{"pids":{{"limit":{limit}}}}}"#);
        assert_eq!(of(&json), list(&[("pids.max", value)]));
    }
    assert!(of(r#"{"pids":{}}"#).is_empty());
    let huge = of(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#);
    assert_eq!(huge[0], ("hugetlb.2MB.max".to_owned(), "4194304".to_owned()));
    assert_eq!(huge[1].0, "hugetlb.2MB.rsvd.max");
}

#[test]
fn io_limits() {
    let json = r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":16,"weight":10}],
        "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}],
        "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":0}],
        "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":3}],
        "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":4}]}}"#;
    let expected = [
        ("io.bfq.weight", "500"),
        ("io.weight", "default 4950"),
        ("io.bfq.weight", "8:16 10"),
        ("io.weight", "8:16 1"),
        ("io.max", "8:0 rbps=1000"),
        ("io.max", "8:0 wbps=max"),
        ("io.max", "8:0 riops=3"),
        ("io.max", "8:0 wiops=4"),
    ];
    assert_eq!(of(json), list(&expected));
}

#[test]
fn unified_keys_stay_in_the_cgroup() {
    for key in ["memory.high", "cgroup.max.depth", "pids.max"] {
        let json = format!(r#"{{"unified":{{"{key}":"10"}}}}"#);
        assert_eq!(of(&json), list(&[(key, "10")]));
    }
    for key in ["../x", "a/b", "", "cgroup.procs", "cgroup.subtree_control", "cgroup.kill"] {
        assert!(refused(&format!(r#"{{"unified":{{"{key}":"1"}}}}"#)), "{key}");
    }
}
