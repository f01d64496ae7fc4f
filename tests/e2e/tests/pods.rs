//! Pods as kubelet runs them: through the CRI server of every version of containerd that the lab
//! has, with each controller of the version.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use harness::containerd::versions;
use harness::cri::{ContainerSpec, Daemon, PodSpec};

#[test]
fn a_pod_lives_its_life_under_runc() {
    for programs in versions() {
        let daemon = Daemon::new(&programs);
        println!("containerd {}", daemon.version());
        let cri = daemon.cri();
        let pod = cri.run_pod(PodSpec::new("first").handler("runc"));
        let container = cri.start_new(&pod, ContainerSpec::idle("main"));
        println!("{:?}", cri.addresses(&pod));
        assert_eq!(cri.exec_sync(&container, &["echo", "there"]).ok(), "there\n");
        let mut session =
            cri.exec(&container, &["sh", "-c", "echo out; echo err >&2; exit 3"], false, false);
        assert_eq!((session.finish(), session.output().as_str()), (3, "out\n"));
        let server = ContainerSpec::shell("server", "while :; do echo hello | nc -l -p 80; done");
        cri.start_new(&pod, server);
        let forward = cri.port_forward(&pod, 80);
        assert_eq!(forward.finish().unwrap(), b"hello\n");
        println!("{:?}", cri.stats(&container));
        cri.remove_pod(&pod);
        daemon.settled();
    }
}
