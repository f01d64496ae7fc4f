use super::*;

/// A recorded result: `perf start` of 2026-12-01.
const START: &str = include_str!("start.json");

fn counts(part: &str, text: &str) -> Counts {
    let mut counts = Counts::new();
    collect(part, &serde_json::from_str(text).unwrap(), &mut counts);
    counts
}

/// The recorded result, with one of its rows `factor` times as large.
fn grown(row: &str, factor: f64) -> Counts {
    let mut counts = counts("start", START);
    *counts.get_mut(row).unwrap() *= factor;
    counts
}

fn regressions(base: &Counts, now: &Counts) -> Vec<String> {
    let found = changes(base, now);
    found.into_iter().filter(Change::is_regression).map(|change| change.what).collect()
}

const BOOT: &str = "start: boot to agent ready, cuddy-vmm";
const QEMU: &str = "start: boot to agent ready, QEMU microvm";

#[test]
fn only_counts_of_a_recorded_result_are_taken() {
    let counts = counts("start", START);
    assert_eq!(counts[BOOT], 0.134_112_115);
    assert!(!counts.keys().any(|what| what.contains("PSS") || what.contains(" / ")), "{counts:?}");
    assert_eq!(counts.len(), 4, "{counts:?}");
}

#[test]
fn three_per_cent_more_of_ours_is_a_regression() {
    let base = counts("start", START);
    assert_eq!(regressions(&base, &base), [""; 0]);
    assert_eq!(regressions(&base, &grown(BOOT, 1.029)), [""; 0]);
    assert_eq!(regressions(&base, &grown(BOOT, 1.031)), [BOOT]);
    assert_eq!(regressions(&base, &grown(BOOT, 0.5)), [""; 0]);
    assert_eq!(regressions(&base, &grown(QEMU, 2.0)), [""; 0]);
    let table = table(&changes(&base, &grown(BOOT, 1.1)));
    let line = table.lines().find(|line| line.starts_with(BOOT)).unwrap();
    assert!(line.ends_with("134.1  147.5  +10.0  REGRESSION"), "{table}");
}

#[test]
fn the_wall_clock_is_not_judged() {
    assert!(counts("start", &START.replace("QEMU icount", "seconds")).is_empty());
}

#[test]
fn calls_and_samples_count_but_steps_and_memory_do_not() {
    let timeline = r#"{"clock": "icount", "numbers": [{"who": "cuddyd",
        "calls": [{"what": "RunPodSandbox", "begin": 0.5, "end": 1.0}],
        "steps": [{"what": "kernel", "begin": 0.5, "end": 0.75}]}]}"#;
    let expected = [("timeline: cuddyd: calls: RunPodSandbox".to_owned(), 0.5)];
    assert_eq!(counts("timeline", timeline), Counts::from(expected));
    let node = r#"{"clock": "icount", "numbers": [{"who": "cuddyd", "alone": [1.0, 2.0, 9.0],
        "together": [], "without": {"all": 12.0}, "pods": 3}]}"#;
    let expected = [("node: cuddyd: alone".to_owned(), 2.0)];
    assert_eq!(counts("node", node), Counts::from(expected));
}

#[test]
fn files_and_directories_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("start.json");
    std::fs::write(&file, START).unwrap();
    std::fs::write(dir.path().join("start.txt"), "no JSON").unwrap();
    assert_eq!(read(&file).unwrap(), read(dir.path()).unwrap());
    std::fs::write(&file, "{").unwrap();
    assert!(read(&file).unwrap_err().to_string().contains("start.json"));
    assert!(read(&dir.path().join("absent")).is_err());
}
