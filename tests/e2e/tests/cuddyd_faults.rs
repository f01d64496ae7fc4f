//! Our own daemon when it is killed, when its clients hang up, and when something hangs.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::future::Future;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::cri::api::{self, ContainerState};
use harness::cri::{Container, ContainerSpec, Cri, Cuddyd, Pod, PodSpec};
use harness::eventually;
use rustix::process::{Pid, Signal, kill_process};
use tonic::{Code, Response, Status};

/// A client that plays kubelet: a call that the daemon did not live to answer is made again.
struct Kubelet {
    daemon: Cuddyd,
    kills: u32,
}

impl Kubelet {
    fn ask<T, F: Future<Output = Result<Response<T>, Status>>>(
        &mut self,
        call: impl Fn(Cri) -> F,
    ) -> T {
        loop {
            let cri = self.daemon.cri();
            let failed = match cri.wait(call(cri.clone())) {
                Ok(answer) => return answer,
                Err(failed) => failed,
            };
            assert!(
                matches!(failed.code(), Code::Unavailable | Code::Unknown | Code::Internal),
                "{failed:?}"
            );
            self.revive();
        }
    }

    fn revive(&mut self) {
        self.daemon.ended();
        self.kills += 1;
        self.daemon.start();
    }

    fn run(&mut self, spec: &PodSpec) -> Pod {
        let PodSpec { config, handler } = spec.clone();
        std::fs::create_dir_all(&config.log_directory).unwrap();
        let request =
            api::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler };
        let call = |cri: Cri| {
            let request = request.clone();
            async move { cri.runtime_service().run_pod_sandbox(request).await }
        };
        Pod { id: self.ask(call).pod_sandbox_id, config }
    }

    fn create(&mut self, pod: &Pod, spec: &ContainerSpec) -> Container {
        let request = api::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(spec.config.clone()),
            sandbox_config: Some(pod.config.clone()),
        };
        let call = |cri: Cri| {
            let request = request.clone();
            async move { cri.runtime_service().create_container(request).await }
        };
        let log = Path::new(&pod.config.log_directory).join(&spec.config.log_path);
        Container { id: self.ask(call).container_id, log }
    }

    /// As kubelet does, which looks at the state before it starts anything.
    fn start(&mut self, container: &Container) {
        loop {
            if self.status(container).state() != ContainerState::ContainerCreated {
                return;
            }
            let request = api::StartContainerRequest { container_id: container.id.clone() };
            let cri = self.daemon.cri();
            let call = async { cri.runtime_service().start_container(request).await };
            match cri.wait(call) {
                Ok(_) => return,
                Err(_) => self.revive(),
            }
        }
    }

    fn status(&mut self, container: &Container) -> api::ContainerStatus {
        let container_id = container.id.clone();
        let request = api::ContainerStatusRequest { container_id, verbose: false };
        let call = |cri: Cri| {
            let request = request.clone();
            async move { cri.runtime_service().container_status(request).await }
        };
        self.ask(call).status.unwrap()
    }

    /// Waits for the container's end, whoever tells it.
    fn exited(&mut self, container: &Container) -> api::ContainerStatus {
        let mut last = None;
        for _ in 0..600 {
            let status = self.status(container);
            if status.state() == ContainerState::ContainerExited {
                return status;
            }
            last = Some(status);
            std::thread::sleep(Duration::from_millis(100)); // between two looks, as kubelet's
        }
        panic!("still there: {last:?}");
    }

    fn remove(&mut self, pod: &Pod) {
        let stop = api::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.ask(|cri: Cri| {
            let stop = stop.clone();
            async move { cri.runtime_service().stop_pod_sandbox(stop).await }
        });
        let remove = api::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.ask(|cri: Cri| {
            let remove = remove.clone();
            async move { cri.runtime_service().remove_pod_sandbox(remove).await }
        });
    }

    fn pod_status(&mut self, pod: &Pod) -> api::PodSandboxStatus {
        let pod_sandbox_id = pod.id.clone();
        let request = api::PodSandboxStatusRequest { pod_sandbox_id, verbose: false };
        let call = |cri: Cri| {
            let request = request.clone();
            async move { cri.runtime_service().pod_sandbox_status(request).await }
        };
        self.ask(call).status.unwrap()
    }
}

/// A pod of which nothing is made beforehand.
fn plain(name: &str) -> PodSpec {
    let mut spec = PodSpec::new(name);
    spec.config.linux.as_mut().unwrap().cgroup_parent = String::new();
    spec
}

/// The life of a pod with one container; what must not change does not.
fn life(kubelet: &mut Kubelet) {
    let spec = plain("killed");
    let pod = kubelet.run(&spec);
    let ready = kubelet.pod_status(&pod);
    assert_eq!(ready.state(), api::PodSandboxState::SandboxReady);
    let script = ContainerSpec::shell("main", "echo one line; exit 7");
    let container = kubelet.create(&pod, &script);
    assert_eq!(kubelet.create(&pod, &script).id, container.id, "the same name is the same one");
    kubelet.start(&container);
    let ended = kubelet.exited(&container);
    assert_eq!(ended.exit_code, 7, "{ended:?}");
    let log = std::fs::read_to_string(&container.log).unwrap();
    assert_eq!(log.matches("stdout F one line\n").count(), 1, "{log}");
    let now = kubelet.pod_status(&pod);
    assert_eq!((now.created_at, &now.network), (ready.created_at, &ready.network));
    assert_eq!(kubelet.run(&spec).id, pod.id, "the same pod is the same one");
    kubelet.remove(&pod);
}

#[test]
fn daemon_may_be_killed_at_every_step_of_a_pods_life() {
    let daemon = Cuddyd::new();
    daemon.pull("busybox");
    let mut kubelet = Kubelet { daemon, kills: 0 };
    for nth in 1.. {
        // The lab ends what says nothing for minutes.
        let _gone = writeln!(std::io::stderr(), "killed at record {nth}");
        let before = kubelet.kills;
        let killer = kubelet.daemon.kill_at_record(nth);
        life(&mut kubelet);
        drop(killer);
        eventually("nothing is left", || kubelet.daemon.remains().is_empty());
        assert!(kubelet.daemon.cri().pods().is_empty());
        if kubelet.kills == before {
            println!("a life has {} records", nth - 1);
            assert!(nth > 8, "the daemon was killed {} times only", kubelet.kills);
            return;
        }
    }
}

/// CNI's bridge behind a gate: who adds a pod waits until the gate is there.
fn gated(daemon: &Cuddyd) {
    let dir = daemon.path("plugins");
    std::fs::create_dir(&dir).unwrap();
    let at = daemon.path("").display().to_string();
    let script = format!(
        "#!/bin/sh\necho $CNI_COMMAND >>{at}/asked\n[ $CNI_COMMAND != ADD ] ||\n\
         until [ -e {at}/gate ]; do sleep 0.1; done\nexec /usr/lib/cni/bridge\n"
    );
    std::fs::write(dir.join("gated"), script).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.join("gated"), executable).unwrap();
    let list = daemon.path("net.d/10-cuddy.conflist");
    let text = std::fs::read_to_string(&list).unwrap();
    let text = text.replace("\"type\":\"bridge\"", "\"type\":\"gated\"");
    assert!(text.contains("gated"), "{text}");
    std::fs::write(list, text).unwrap();
}

/// How often a plug-in was asked for `verb`.
fn asked(daemon: &Cuddyd, verb: &str) -> usize {
    let text = std::fs::read_to_string(daemon.path("asked")).unwrap_or_default();
    text.lines().filter(|line| *line == verb).count()
}

fn run_request(spec: &PodSpec) -> api::RunPodSandboxRequest {
    let PodSpec { config, handler } = spec.clone();
    std::fs::create_dir_all(&config.log_directory).unwrap();
    api::RunPodSandboxRequest { config: Some(config), runtime_handler: handler }
}

#[test]
fn pod_whose_caller_ran_out_of_time_is_there_for_the_next_call() {
    let daemon = Cuddyd::new();
    daemon.pull("busybox");
    gated(&daemon);
    let cri = daemon.cri();
    let spec = plain("late");
    let mut request = tonic::Request::new(run_request(&spec));
    request.set_timeout(Duration::from_secs(1));
    let late = cri.wait(cri.runtime_service().run_pod_sandbox(request)).unwrap_err();
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
    eventually("the network is being made", || asked(&daemon, "ADD") == 1);
    std::fs::write(daemon.path("gate"), "").unwrap();
    let again = cri.wait(cri.runtime_service().run_pod_sandbox(run_request(&spec))).unwrap();
    assert_eq!(asked(&daemon, "ADD"), 1);
    let pods = cri.pods();
    assert_eq!(pods, std::slice::from_ref(&again.pod_sandbox_id));
    let pod = Pod { id: again.pod_sandbox_id, config: spec.config };
    assert!(cri.ready(&pod));
    cri.remove_pod(&pod);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

#[test]
fn pod_whose_caller_hung_up_is_undone() {
    let daemon = Cuddyd::new();
    daemon.pull("busybox");
    gated(&daemon);
    let cri = daemon.cri();
    let request = run_request(&plain("unwanted"));
    let mut service = cri.runtime_service();
    let gone = cri.wait(async {
        let call = service.run_pod_sandbox(request);
        let limited = tokio::time::timeout(Duration::from_secs(1), call).await;
        limited.unwrap_or_else(|_| Err(Status::cancelled("hung up")))
    });
    assert_eq!(gone.unwrap_err().code(), Code::Cancelled);
    eventually("the network is being made", || asked(&daemon, "ADD") == 1);
    std::fs::write(daemon.path("gate"), "").unwrap();
    eventually("the pod is gone", || cri.pods().is_empty() && daemon.remains().is_empty());
    assert!(asked(&daemon, "DEL") > 0);
    harness::host::settled();
}

#[test]
fn pod_that_hangs_holds_up_nobody_elses_answers() {
    let daemon = Cuddyd::new();
    daemon.pull("busybox");
    let cri = daemon.cri();
    let pods: Vec<_> = ["hangs", "lives"].map(|name| cri.run_pod(PodSpec::new(name))).into();
    let [hangs, lives] = [0, 1].map(|one| cri.start_new(&pods[one], ContainerSpec::idle("main")));
    let shim = shim_of(&pods[0]);
    kill_process(shim, Signal::STOP).unwrap();
    let stopping = {
        let (cri, container) = (cri.clone(), hangs.clone());
        std::thread::spawn(move || cri.stop(&container, 1))
    };
    for _ in 0..20 {
        let begin = Instant::now();
        assert_eq!(cri.pods().len(), 2);
        assert_eq!(cri.status(&lives).state(), ContainerState::ContainerRunning);
        cri.status(&hangs);
        // What asks the shim waits for seconds at least.
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    }
    assert_eq!(cri.exec_sync(&lives, &["echo", "there"]).ok(), "there\n");
    cri.remove_pod(&pods[1]);
    kill_process(shim, Signal::CONT).unwrap();
    stopping.join().unwrap();
    cri.remove_pod(&pods[0]);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

/// The pod's shim: the parent of its VMM.
fn shim_of(pod: &Pod) -> Pid {
    let directory = Path::new("/run/cuddy/cuddy.cri").join(&pod.id);
    let vmm = std::fs::read_to_string(directory.join("vmm.pid")).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", vmm.trim())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    Pid::from_raw(parent.trim().parse().unwrap()).unwrap()
}

#[test]
fn image_that_is_removed_while_it_runs_frees_its_disk_with_its_last_container() {
    let daemon = Cuddyd::new();
    daemon.pull("busybox");
    let cri = daemon.cri();
    let pod = cri.run_pod(PodSpec::new("uses"));
    let container = cri.start_new(&pod, ContainerSpec::idle("main"));
    assert!(layers(&daemon) > 0);
    let image = Some(api::ImageSpec {
        image: "cuddy.test/busybox:latest".to_owned(),
        ..Default::default()
    });
    let request = api::RemoveImageRequest { image };
    cri.wait(cri.image_service().remove_image(request.clone())).unwrap();
    assert_eq!(cri.image("cuddy.test/busybox:latest"), None, "it is gone for who asks");
    assert!(layers(&daemon) > 0, "and stays for who has it");
    assert_eq!(cri.exec_sync(&container, &["busybox", "echo", "there"]).ok(), "there\n");
    cri.wait(cri.image_service().remove_image(request)).unwrap();
    cri.remove_pod(&pod);
    eventually("the layers are gone", || layers(&daemon) == 0);
    // And when nobody uses it, at once.
    daemon.pull("busybox");
    assert!(layers(&daemon) > 0);
    let image = cri.image("cuddy.test/busybox:latest");
    let image = Some(api::ImageSpec { image: image.unwrap(), ..Default::default() });
    cri.wait(cri.image_service().remove_image(api::RemoveImageRequest { image })).unwrap();
    assert_eq!(layers(&daemon), 0);
}

/// How many layers the store has.
fn layers(daemon: &Cuddyd) -> usize {
    let mut found = 0;
    let mut directories = vec![daemon.path("root/images")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else {
                found += usize::from(entry.path().extension().is_some_and(|end| end == "erofs"));
            }
        }
    }
    found
}
