//! A pod's life as CRI-O leads it through its runtime type `vm`.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use harness::cri_o::Pod;
use harness::host;

const POD: &str = "cri-o-pod";
const RUNNING: i32 = 2;

#[test]
fn pod_lives_and_ends_without_events_and_without_delete() {
    let mut pod = Pod::new(POD);
    let silence = pod.create(POD, &["sleep", "1000"], None);
    pod.start(POD, "");
    let output = pod.create("web", &["sh", "-c", "echo out; exec sleep 1000"], None);
    pod.start("web", "");
    assert_eq!(host::vmms().len(), 1, "a pod is one machine");
    assert_eq!(pod.exec("web", "one", r#""sh","-c","echo hi; exit 5""#), (5, "hi\n".to_owned()));
    statistics(&pod);
    // The infrastructure container is the machine: nothing of it runs in the guest.
    let (_, seen) = pod.exec("web", "two", r#""sh","-c","busybox pidof sleep | busybox wc -w""#);
    assert_eq!(seen.trim(), "1", "the container's own");
    pod.kill(POD, 0);
    let metrics = pod.stats(POD);
    assert!(metrics.cpu.is_some() && metrics.memory.is_some() && metrics.pids.is_some());

    pod.restart("web");
    pod.kill("web", 0);
    let state = pod.state("web");
    assert_eq!(state.status.value(), RUNNING);
    assert_eq!(state.stdout, pod.bundle("web").join("stdout").display().to_string());

    pod.kill("web", 9);
    assert_eq!((pod.wait("web", ""), output.text().as_str()), (137, "out\n"));
    assert!(!pod.bundle("web").join("oom").exists());
    pod.remove("web");
    assert_eq!(pod.state(POD).status.value(), RUNNING);

    out_of_memory(&mut pod);
    pod.kill(POD, 9);
    assert_eq!((pod.wait(POD, ""), silence.text().as_str()), (137, ""));
    pod.remove(POD);
    host::settled();
}

/// CRI-O looks into these without asking whether they are there.
fn statistics(pod: &Pod) {
    let metrics = pod.stats("web");
    assert!(metrics.cpu.is_some() && metrics.pids.is_some(), "{metrics}");
    assert!(metrics.memory.usage > 0 && metrics.pids.current > 0, "{metrics}");
}

/// The exit says 137 whoever killed; the file in the bundle says that it was the kernel.
fn out_of_memory(pod: &mut Pod) {
    let arguments = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
    let output = pod.create("hog", &arguments, Some(16 << 20));
    pod.start("hog", "");
    assert_eq!((pod.wait("hog", ""), output.text().as_str()), (137, ""));
    assert!(pod.bundle("hog").join("oom").exists(), "no file oom in the bundle");
    pod.remove("hog");
}
