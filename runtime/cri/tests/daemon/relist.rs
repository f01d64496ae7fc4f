//! A kubelet's looks at a full node, of which one pod's shim stands still.

use std::time::{Duration, Instant};

use harness::cri::api;

use crate::node::Node;

/// As many pods as a kubelet has by default twice over, and one more.
const PODS: usize = 250;

/// What a look at all pods may take on a busy machine. One that waited for the shim which stands still
/// would never end.
const LOOK: Duration = Duration::from_millis(500);

/// Pods are started by so many callers at a time.
const AT_A_TIME: usize = 8;

fn start_all(node: &Node) -> Vec<(String, String)> {
    let numbers: Vec<usize> = (0..PODS).collect();
    std::thread::scope(|scope| {
        let starters: Vec<_> = numbers
            .chunks(PODS.div_ceil(AT_A_TIME))
            .map(|numbers| {
                let run = |number: &usize| node.running(&format!("pod{number}"));
                scope.spawn(move || numbers.iter().map(run).collect::<Vec<_>>())
            })
            .collect();
        starters.into_iter().flat_map(|starter| starter.join().unwrap()).collect()
    })
}

/// How long a call took.
fn timed<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let answer = call();
    (answer, begun.elapsed())
}

#[test]
fn looks_at_250_pods_are_quick_while_one_shim_stands_still() {
    let node = Node::with(2);
    node.pull();
    let all = start_all(&node);
    let (hangs, of_hangs) = all.iter().find(|(pod, _)| node.shims.is_first(pod)).unwrap();
    let frozen = node.shims.of(hangs).freeze();
    // Somebody waits for that shim all the while.
    let (cri, request) = (
        node.cri().clone(),
        api::StopContainerRequest { container_id: of_hangs.clone(), timeout: 0 },
    );
    let waits = std::thread::spawn(move || {
        let mut service = cri.runtime_service();
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_secs(20));
        cri.wait(service.stop_container(request)).map(drop)
    });
    let mut times = Vec::new();
    for _second in 0..8 {
        let (pods, took) = timed(|| node.pods());
        let (containers, also) = timed(|| node.containers());
        assert_eq!((pods.len(), containers.len()), (PODS, PODS));
        times.extend([took, also]);
        // A tenth of what it asks of each container every ten seconds.
        for (_, id) in all.iter().step_by(10).chain([&(hangs.clone(), of_hangs.clone())]) {
            let (status, took) = timed(|| node.status(id));
            assert_eq!(status.state(), api::ContainerState::ContainerRunning);
            times.push(took);
        }
    }
    times.sort();
    let slow = times.iter().filter(|took| **took > LOOK).count();
    println!("{} looks, the slowest {:?}", times.len(), times.last());
    assert_eq!(slow, 0, "{slow} of {} looks: {:?}", times.len(), &times[times.len() - slow..]);
    assert!(!waits.is_finished());
    drop(frozen);
    let _stopped = waits.join().unwrap();
}
