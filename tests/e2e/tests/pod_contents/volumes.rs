//! A volume after the end of the pod that wrote it.

use harness::cri::node::any_handler;
use harness::cri::{ContainerSpec, PodSpec};
use harness::eventually;

use crate::probe;

#[test]
fn what_is_written_by_memory_is_the_hosts_after_the_end() {
    any_handler(|node| {
        let cri = &node.cri;
        let shared = tempfile::tempdir().unwrap();
        std::fs::write(shared.path().join("mapped"), vec![b'.'; 4096]).unwrap();
        let pod = node.run(PodSpec::new("mapped"));
        let main = ContainerSpec::shell("main", &probe::command("map"));
        let main = probe::given(main.mount(shared.path(), "/shared"));
        let main = cri.start_new(&pod, main);
        eventually("it is written", || cri.sh(&main, "head -c 9 /shared/mapped") == "by memory");
        cri.remove_pod(&pod);
        let written = std::fs::read(shared.path().join("mapped")).unwrap();
        assert_eq!((&written[..10], written.len()), (&b"by memory."[..], 4096));
    });
}
