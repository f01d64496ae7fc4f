use std::collections::HashMap;

use super::*;
use crate::spec::tests::node;

fn asked() -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        cpu_shares: 204,
        memory_limit_in_bytes: 64 << 20,
        oom_score_adj: 999,
        cpuset_cpus: "0-1".to_owned(),
        cpuset_mems: "0".to_owned(),
        hugepage_limits: vec![HugepageLimit { page_size: "2MB".to_owned(), limit: 4 << 20 }],
        unified: HashMap::from([("memory.high".to_owned(), "1".to_owned())]),
        memory_swap_limit_in_bytes: 128 << 20,
    }
}

#[test]
fn all_of_it_comes_back() {
    let mut resources = LinuxResources::default();
    assert_eq!(apply(&mut resources, &asked(), &node()), Ok(vec![]));
    assert_eq!(oom_score_adj(&asked()), Ok(999));
    assert_eq!(status(&resources, Some(999)), asked());
}

#[test]
fn nothing_said_is_nothing_set() {
    let mut resources = LinuxResources::default();
    apply(&mut resources, &LinuxContainerResources::default(), &node()).unwrap();
    assert_eq!(resources, LinuxResources::default());
}

#[test]
fn update_changes_what_it_names_only() {
    let mut resources = LinuxResources::default();
    apply(&mut resources, &asked(), &node()).unwrap();
    let update = LinuxContainerResources {
        cpu_quota: -1,
        hugepage_limits: vec![
            HugepageLimit { page_size: "2MB".to_owned(), limit: 0 },
            HugepageLimit { page_size: "1GB".to_owned(), limit: u64::MAX },
        ],
        unified: HashMap::from([("memory.low".to_owned(), "2".to_owned())]),
        ..LinuxContainerResources::default()
    };
    apply(&mut resources, &update, &node()).unwrap();
    let now = status(&resources, None);
    assert_eq!((now.cpu_quota, now.cpu_period, now.memory_limit_in_bytes), (-1, 100_000, 64 << 20));
    let sizes: Vec<_> =
        now.hugepage_limits.iter().map(|limit| (limit.page_size.as_str(), limit.limit)).collect();
    assert_eq!(sizes, [("2MB", 0), ("1GB", i64::MAX.unsigned_abs())]);
    assert_eq!(now.unified.len(), 2);
}

#[test]
fn limit_of_memory_is_one_of_swap_too() {
    for (limit, both, swap, expected) in [
        (10, 0, true, (Some(10), Some(10))),
        (10, 0, false, (Some(10), None)),
        (10, 20, true, (Some(10), Some(20))),
        (0, 20, true, (None, Some(20))),
        (10, -1, true, (Some(10), Some(-1))),
        (-1, 0, true, (Some(-1), Some(-1))),
    ] {
        let asked = LinuxContainerResources {
            memory_limit_in_bytes: limit,
            memory_swap_limit_in_bytes: both,
            ..LinuxContainerResources::default()
        };
        let mut resources = LinuxResources::default();
        let notes = apply(&mut resources, &asked, &Node { swap, ..node() }).unwrap();
        let memory = resources.memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), expected);
        assert_eq!(notes.is_empty(), swap || both == 0);
    }
}

#[test]
fn missing_controller_of_huge_pages_is_told() {
    let mut resources = LinuxResources::default();
    let notes = apply(&mut resources, &asked(), &Node { hugetlb: false, ..node() }).unwrap();
    assert_eq!((notes.len(), resources.hugepage_limits()), (1, &None));
}

#[test]
fn what_cannot_be_meant_is_named_and_changes_nothing() {
    type Change = fn(&mut LinuxContainerResources);
    let changes: [(Change, &str); 8] = [
        (|r| r.cpu_period = -1, "resource cpu_period: -1 is negative"),
        (|r| r.cpu_shares = -2, "resource cpu_shares: -2 is negative"),
        (|r| r.memory_swap_limit_in_bytes = 1, "resource memory_swap_limit_in_bytes: 1 is less"),
        (|r| r.oom_score_adj = 1001, "resource oom_score_adj: 1001 is not -1000 to 1000"),
        (|r| r.cpuset_cpus = "a".into(), "resource \"a\": no list of CPUs"),
        (|r| r.hugepage_limits[0].page_size = "../x".into(), "resource \"../x\": no size"),
        (|r| drop(r.unified.insert("../x".into(), String::new())), "resource \"../x\": no file"),
        (|r| drop(r.unified.insert("a.b".into(), "\0".into())), "resource \"a.b\": its value"),
    ];
    for (change, reason) in changes {
        let (mut wrong, mut resources) = (asked(), LinuxResources::default());
        change(&mut wrong);
        let error = oom_score_adj(&wrong);
        let error = error.and_then(|_| apply(&mut resources, &wrong, &node())).unwrap_err();
        assert!(error.to_string().starts_with(reason), "{error}");
        assert_eq!(resources, LinuxResources::default());
    }
}
