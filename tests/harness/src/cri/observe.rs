//! What a CRI server tells of pods and containers: status, statistics, events, commands' output.

use super::api::{self, ContainerState};
use super::{
    CALL, Code, Container, Cri, Duration, Executed, Instant, Pod, Receiver, Status, answer, limited,
};

impl Cri {
    /// ExecSync with a time limit in seconds (0: none).
    ///
    /// # Errors
    /// The server's; DeadlineExceeded when the command took longer.
    pub fn try_exec_sync(
        &self,
        container: &Container,
        command: &[&str],
        seconds: i64,
    ) -> Result<Executed, Status> {
        let request = api::ExecSyncRequest {
            container_id: container.id.clone(),
            cmd: command.iter().map(ToString::to_string).collect(),
            timeout: seconds,
        };
        let mut service = self.runtime_service();
        let done = self.wait(service.exec_sync(limited(request, CALL)))?;
        Ok(Executed {
            code: done.exit_code,
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        })
    }

    /// ExecSync; an exit code other than 0 is no failure of the call.
    ///
    /// # Panics
    /// When the call fails.
    #[track_caller]
    pub fn exec_sync(&self, container: &Container, command: &[&str]) -> Executed {
        answer("ExecSync", self.try_exec_sync(container, command, 60))
    }

    /// Runs a script by ExecSync, and returns its output without the last line feed.
    ///
    /// # Panics
    /// When the call fails or the script does.
    #[track_caller]
    pub fn sh(&self, container: &Container, script: &str) -> String {
        let output = self.exec_sync(container, &["sh", "-c", script]).ok();
        output.strip_suffix('\n').unwrap_or(&output).to_owned()
    }

    /// ContainerStatus.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn status(&self, container: &Container) -> api::ContainerStatus {
        let container_id = container.id.clone();
        let request = api::ContainerStatusRequest { container_id, verbose: false };
        let mut service = self.runtime_service();
        let response = self.wait(service.container_status(limited(request, CALL)));
        answer("ContainerStatus", response).status.unwrap()
    }

    /// PodSandboxStatus.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn pod_status(&self, pod: &Pod) -> api::PodSandboxStatus {
        let pod_sandbox_id = pod.id.clone();
        let request = api::PodSandboxStatusRequest { pod_sandbox_id, verbose: false };
        let mut service = self.runtime_service();
        let response = self.wait(service.pod_sandbox_status(limited(request, CALL)));
        answer("PodSandboxStatus", response).status.unwrap()
    }

    /// The pod's addresses, the first one (the primary) first.
    ///
    /// # Panics
    /// When there is no status or no network.
    #[track_caller]
    pub fn addresses(&self, pod: &Pod) -> Vec<std::net::IpAddr> {
        let network = self.pod_status(pod).network.unwrap();
        let more = network.additional_ips.iter().map(|ip| ip.ip.as_str());
        std::iter::once(network.ip.as_str()).chain(more).map(|ip| ip.parse().unwrap()).collect()
    }

    /// Whether PodSandboxStatus says ready.
    ///
    /// # Panics
    /// When there is no status.
    #[track_caller]
    pub fn ready(&self, pod: &Pod) -> bool {
        self.pod_status(pod).state() == api::PodSandboxState::SandboxReady
    }

    /// Waits until the container has exited, and returns its status.
    ///
    /// # Panics
    /// When it has not within [`CALL`].
    #[track_caller]
    pub fn exited(&self, container: &Container) -> api::ContainerStatus {
        let end = Instant::now() + CALL;
        loop {
            let status = self.status(container);
            if status.state() == ContainerState::ContainerExited {
                return status;
            }
            assert!(Instant::now() < end, "still there: {status:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// ContainerStats.
    ///
    /// # Errors
    /// The server's.
    pub fn try_stats(&self, container: &Container) -> Result<api::ContainerStats, Status> {
        let request = api::ContainerStatsRequest { container_id: container.id.clone() };
        let mut service = self.runtime_service();
        let response = self.wait(service.container_stats(limited(request, CALL)))?;
        response.stats.ok_or_else(|| Status::internal("no stats in the answer"))
    }

    /// ContainerStats.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn stats(&self, container: &Container) -> api::ContainerStats {
        answer("ContainerStats", self.try_stats(container))
    }

    /// PodSandboxStats.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn pod_stats(&self, pod: &Pod) -> api::PodSandboxStats {
        let request = api::PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
        let mut service = self.runtime_service();
        let response = self.wait(service.pod_sandbox_stats(limited(request, CALL)));
        answer("PodSandboxStats", response).stats.unwrap()
    }

    /// UpdateContainerResources.
    ///
    /// # Errors
    /// The server's.
    pub fn try_update(
        &self,
        container: &Container,
        resources: api::LinuxContainerResources,
    ) -> Result<(), Status> {
        let request = api::UpdateContainerResourcesRequest {
            container_id: container.id.clone(),
            linux: Some(resources),
            ..Default::default()
        };
        let mut service = self.runtime_service();
        self.wait(service.update_container_resources(limited(request, CALL))).map(|_| ())
    }

    /// ReopenContainerLog.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn reopen_log(&self, container: &Container) {
        let request = api::ReopenContainerLogRequest { container_id: container.id.clone() };
        let mut service = self.runtime_service();
        let response = self.wait(service.reopen_container_log(limited(request, CALL)));
        answer("ReopenContainerLog", response);
    }

    /// GetContainerEvents from now on; none where the server does not have them (containerd 1.6).
    ///
    /// # Panics
    /// When the call fails otherwise.
    pub fn events(&self) -> Option<Receiver<api::ContainerEventResponse>> {
        let mut service = self.runtime_service();
        let opened = self.wait(service.get_container_events(api::GetEventsRequest {}));
        if opened.as_ref().is_err_and(|status| status.code() == Code::Unimplemented) {
            return None;
        }
        let mut stream = answer("GetContainerEvents", opened);
        let (sender, receiver) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            while let Ok(Some(event)) = stream.message().await
                && sender.send(event).is_ok()
            {}
        });
        Some(receiver)
    }

    /// The image's id, if the server has it.
    ///
    /// # Panics
    /// When the call fails.
    pub fn image(&self, name: &str) -> Option<String> {
        let image = Some(api::ImageSpec { image: name.to_owned(), ..Default::default() });
        let request = api::ImageStatusRequest { image, verbose: false };
        let mut service = self.image_service();
        let response = self.wait(service.image_status(limited(request, CALL)));
        answer("ImageStatus", response).image.map(|image| image.id)
    }

    /// PullImage.
    ///
    /// # Errors
    /// The server's.
    pub fn try_pull(&self, name: &str) -> Result<String, Status> {
        let image = Some(api::ImageSpec { image: name.to_owned(), ..Default::default() });
        let request = api::PullImageRequest { image, ..Default::default() };
        let mut service = self.image_service();
        self.wait(service.pull_image(limited(request, CALL))).map(|response| response.image_ref)
    }
}
