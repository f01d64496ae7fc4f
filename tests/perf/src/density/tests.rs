use super::*;

fn pods(count: u32) -> Density {
    let row = |pod: u32| {
        let memory = Memory { shim: f64::from(pod), vmm: 0.5, guest: 40.0 };
        Row { pod, memory: Some(memory), ..Row::default() }
    };
    let pods = (1..=count).map(row).collect();
    Density { pods, host: 50.5, create_seconds: 10.0, probe_seconds: 1.0 }
}

#[test]
fn the_table_has_least_median_and_most() {
    let table = table(&pods(3));
    let line = |what: &str| table.lines().find(|line| line.starts_with(what)).unwrap();
    let words: Vec<_> = line("shim").split_whitespace().collect();
    assert_eq!(words[2..], ["1.0", "2.0", "3.0"]);
    assert!(line("together").ends_with("43.5"), "{table}");
    assert!(line("less available").ends_with("50.5"), "{table}");
}

#[test]
fn a_lost_pod_fails_the_run_and_tells_why() {
    let mut density = pods(50);
    assert!(density.met());
    density.pods[6].memory = None;
    density.pods[6].lost = Some("triple fault".to_owned());
    assert!(!density.met());
    let table = table(&density);
    assert!(table.contains("1 lost (none): MISSED") && table.contains("pod 7 was lost: triple"));
}

#[test]
fn two_may_be_begun_again() {
    let mut density = pods(50);
    for pod in &mut density.pods[..2] {
        pod.again = Some("RunPodSandbox: machine ended".to_owned());
    }
    assert!(density.met());
    density.pods[2].again = Some("RunPodSandbox: machine ended".to_owned());
    assert!(!density.met());
}

#[test]
fn every_pod_is_a_row_for_programs() {
    let rows = serde_json::to_value(pods(2)).unwrap();
    assert_eq!(rows["pods"][1]["pod"], 2);
    assert_eq!(rows["pods"][1]["guest"], 40.0);
}
