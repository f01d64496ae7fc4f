//! A pod with one container, run through CRI.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::cri::{Container, ContainerSpec, Cri, Pod, PodSpec};

/// What the shims keep, by the name that the server gives to all its pods.
const SANDBOXES: &str = "/run/cuddy";

/// That name of containerd's.
const CONTAINERD: &str = "k8s.io";

/// Where the cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// A pod whose container was started.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pod: Pod,
    pub(crate) container: Container,
}

impl Running {
    /// Runs them.
    pub(crate) fn new(cri: &Cri, pod: PodSpec, container: ContainerSpec) -> Self {
        let pod = cri.run_pod(pod);
        let container = cri.start_new(&pod, container);
        Self { pod, container }
    }

    /// Runs them; nothing is left of a pod whose container does not start.
    ///
    /// # Errors
    /// The server's, with the call's name.
    pub(crate) fn try_new(cri: &Cri, pod: PodSpec, container: ContainerSpec) -> Result<Self> {
        let pod = cri.try_run_pod(pod).context("RunPodSandbox")?;
        let created = cri.try_create(&pod, container).context("CreateContainer");
        let started = created.and_then(|container| {
            cri.try_start(&container).context("StartContainer")?;
            Ok(container)
        });
        match started {
            Ok(container) => Ok(Self { pod, container }),
            Err(error) => Err(match cri.try_remove_pod(&pod) {
                Ok(()) => error,
                Err(stays) => error.context(format!("pod {} stays: {stays}", pod.id)),
            }),
        }
    }

    /// What the shim keeps of it, if it is Cuddy's and containerd's.
    pub(crate) fn directory(&self) -> PathBuf {
        directory(CONTAINERD, &self.pod)
    }

    /// The pod's cgroup.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) fn cgroup(&self) -> Result<PathBuf> {
        let linux = self.pod.config.linux.as_ref().context("the pod has no cgroup")?;
        Ok(Path::new(CGROUPS).join(linux.cgroup_parent.trim_start_matches('/')))
    }
}

/// What the shim keeps of a pod, if it is Cuddy's, under the server's name for its pods.
pub(crate) fn directory(namespace: &str, pod: &Pod) -> PathBuf {
    Path::new(SANDBOXES).join(namespace).join(&pod.id)
}

/// The CPU that a cgroup takes within a time, as part of one CPU.
pub(crate) fn cpu(cgroup: &Path, time: Duration) -> Result<f64> {
    let (begin, before) = (Instant::now(), crate::memory::cpu_us(cgroup)?);
    std::thread::sleep(time);
    let taken = Duration::from_micros(crate::memory::cpu_us(cgroup)? - before);
    Ok(taken.as_secs_f64() / begin.elapsed().as_secs_f64())
}
