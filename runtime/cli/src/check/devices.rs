//! Device nodes beside `/dev/kvm`.

use std::path::Path;

use super::Check;

/// A device node that pods can use.
struct Node {
    topic: &'static str,
    path: &'static str,
    /// Module that brings it.
    module: &'static str,
    /// What is lost without it; `None` when nothing is lost, only a note is made.
    lost: Option<&'static str>,
}

const NODES: [Node; 3] = [
    Node {
        topic: "tun",
        path: "/dev/net/tun",
        module: "tun",
        lost: Some("pods get no network interfaces"),
    },
    Node { topic: "vhost-net", path: "/dev/vhost-net", module: "vhost_net", lost: None },
    Node { topic: "vhost-vsock", path: "/dev/vhost-vsock", module: "vhost_vsock", lost: None },
];

pub(super) fn check() -> Vec<Check> {
    NODES.iter().map(|node| evaluate(node, Path::new(node.path).exists())).collect()
}

fn evaluate(node: &Node, present: bool) -> Check {
    match (present, node.lost) {
        (true, _) => Check::ok(node.topic, node.path),
        (false, None) => {
            Check::ok(node.topic, format!("{} is missing; optional, not needed", node.path))
        }
        (false, Some(lost)) => Check::warning(
            node.topic,
            format!("{} is missing: {lost}", node.path),
            format!("Load the module: `modprobe {}`.", node.module),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn only_what_is_needed_warns_when_missing() {
        let status = |node, present| evaluate(node, present).status;
        let [tun, net, vsock] = &NODES;
        assert_eq!(status(tun, false), Status::Warning);
        assert_eq!(status(net, false), Status::Ok);
        assert_eq!(status(vsock, false), Status::Ok);
        assert!(evaluate(net, false).found.contains("optional"));
        assert!(NODES.iter().all(|node| evaluate(node, true).found == node.path));
    }
}
