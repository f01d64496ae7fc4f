//! What kubelet asks of a node whose pods are machines: the containers' cgroup driver, the pods'
//! network, lists as streams.

use harness::containerd::{newest, versions};
use harness::cri::api::{self, CgroupDriver};
use harness::cri::node::{on_any, on_daemon};
use harness::cri::{ContainerSpec, Cri, Daemon, PodSpec, bridge, template};
use tonic::{Code, Status};

/// From this version on, containerd has the lists as streams.
const STREAMS: (u32, u32) = (2, 4);

/// From this version on, containerd tells its cgroup driver.
const RUNTIME_CONFIG: (u32, u32) = (2, 0);

/// What of a list identifies its items.
type Ids = Result<Vec<String>, Status>;

/// One list by a call, and by a stream; both sorted.
struct Lists {
    what: &'static str,
    whole: Ids,
    streamed: Ids,
}

impl Lists {
    fn new(what: &'static str, mut whole: Ids, mut streamed: Ids) -> Self {
        for ids in [&mut whole, &mut streamed] {
            let _sorted = ids.as_mut().map(|ids| ids.sort());
        }
        Self { what, whole, streamed }
    }

    /// Two items at least, each with its statistics, and the same in both.
    #[track_caller]
    fn judge(self) {
        let Self { what, whole, streamed } = self;
        let whole = whole.unwrap();
        assert_eq!(streamed.unwrap(), whole, "{what}");
        assert!(whole.len() >= 2, "{what}: {whole:?}");
        assert!(!whole.iter().any(|id| id.ends_with(" false")), "{what}: {whole:?}");
    }
}

/// Asks a call and its stream for all items, and gives the ids of both.
macro_rules! lists {
    ($cri:expr, $service:ident, $list:ident.$items:ident, $stream:ident.$streamed:ident, $id:expr) => {{
        let mut service = $cri.$service();
        let whole = $cri.wait(service.$list(tonic::Request::new(Default::default())));
        let parts = $cri.collect(service.$stream(tonic::Request::new(Default::default())));
        let whole = whole.map(|answer| answer.$items.iter().map($id).collect());
        let streamed = parts
            .map(|parts| parts.iter().flat_map(|part| part.$streamed.iter()).map($id).collect());
        Lists::new(stringify!($stream), whole, streamed)
    }};
}

fn of_container(stats: &api::ContainerStats) -> String {
    let used = stats.memory.as_ref().is_some_and(|memory| memory.working_set_bytes.is_some());
    format!("{} {used}", stats.attributes.as_ref().unwrap().id)
}

fn of_pod(stats: &api::PodSandboxStats) -> String {
    let used = stats.linux.as_ref().is_some_and(|linux| linux.memory.is_some());
    format!("{} {used}", stats.attributes.as_ref().unwrap().id)
}

fn metrics(of: &api::PodSandboxMetrics) -> String {
    let containers: Vec<_> = of.container_metrics.iter().map(|one| &one.container_id).collect();
    format!("{} {containers:?}", of.pod_sandbox_id)
}

fn all_lists(cri: &Cri) -> [Lists; 6] {
    let pod = |pod: &api::PodSandbox| pod.id.clone();
    let container = |container: &api::Container| container.id.clone();
    let image = |image: &api::Image| image.id.clone();
    [
        lists!(
            cri,
            runtime_service,
            list_pod_sandbox.items,
            stream_pod_sandboxes.pod_sandboxes,
            pod
        ),
        lists!(
            cri,
            runtime_service,
            list_containers.containers,
            stream_containers.containers,
            container
        ),
        lists!(
            cri,
            runtime_service,
            list_container_stats.stats,
            stream_container_stats.container_stats,
            of_container
        ),
        lists!(
            cri,
            runtime_service,
            list_pod_sandbox_stats.stats,
            stream_pod_sandbox_stats.pod_sandbox_stats,
            of_pod
        ),
        lists!(
            cri,
            runtime_service,
            list_pod_sandbox_metrics.pod_metrics,
            stream_pod_sandbox_metrics.pod_sandbox_metrics,
            metrics
        ),
        lists!(cri, image_service, list_images.images, stream_images.images, image),
    ]
}

#[test]
fn lists_are_the_same_as_streams_where_containerd_has_them() {
    let daemon = Daemon::new(&newest());
    if daemon.release() < STREAMS {
        for Lists { what, streamed, .. } in all_lists(&daemon.cri()) {
            assert_eq!(streamed.unwrap_err().code(), Code::Unimplemented, "{what}");
        }
        return;
    }
    on_daemon(&daemon, |node| {
        let (one, _) = node.idle("one");
        let (two, _) = node.idle("two");
        all_lists(&node.cri).into_iter().for_each(Lists::judge);
        node.cri.remove_pod(&one);
        node.cri.remove_pod(&two);
    });
}

/// The entry of runc with another cgroup driver than it has by itself.
const SYSTEMD: &str = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n\
                       SystemdCgroup = true\n";

/// kubelet names the pods' cgroups in the driver's form. A handler without options of runc's does
/// not answer for the node, though it be the default.
#[test]
fn the_cgroup_driver_is_that_of_ordinary_containers() {
    for programs in versions() {
        for (more, expected) in [("", CgroupDriver::Cgroupfs), (SYSTEMD, CgroupDriver::Systemd)] {
            let daemon = Daemon::with(&programs, bridge, more);
            println!("containerd {}, {expected:?}", daemon.version());
            let cri = daemon.cri();
            let mut service = cri.runtime_service();
            let answer = cri.wait(service.runtime_config(api::RuntimeConfigRequest {}));
            if daemon.release() < RUNTIME_CONFIG {
                assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
                break;
            }
            assert_eq!(answer.unwrap().linux.unwrap().cgroup_driver(), expected);
        }
    }
}

#[test]
fn pods_get_the_addresses_that_kubelet_tells_containerd() {
    let daemon = Daemon::with_template(&newest(), template);
    let cri = daemon.cri();
    assert!(!daemon.is("NetworkReady"), "there is no network yet");
    let network = api::NetworkConfig { pod_cidr: "10.87.3.0/24,fd00:87::/64".to_owned() };
    let runtime_config = Some(api::RuntimeConfig { network_config: Some(network) });
    let request = api::UpdateRuntimeConfigRequest { runtime_config };
    cri.wait(cri.runtime_service().update_runtime_config(request)).unwrap();
    daemon.await_network();
    on_any(&daemon, |node| {
        let pod = node.run(PodSpec::new("addresses"));
        let container = cri.start_new(&pod, ContainerSpec::idle("main"));
        let addresses: Vec<_> = cri.addresses(&pod).iter().map(ToString::to_string).collect();
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        assert!(addresses[0].starts_with("10.87.3."), "{addresses:?}");
        assert!(addresses[1].starts_with("fd00:87::"), "{addresses:?}");
        let inside = cri.sh(&container, "ip -o address show eth0");
        assert!(addresses.iter().all(|one| inside.contains(&format!(" {one}/"))), "{inside}");
        cri.remove_pod(&pod);
    });
}
