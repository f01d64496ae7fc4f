//! A sandbox whose machine and guest are made up. The owner, the core's way to the guest and to the
//! VMM, the share and the streams are the real ones.

pub(crate) mod agent;
pub(crate) mod vmm;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_api::sandbox::ConfigureRequest;
use api::request::StdioPaths;
use host::cgroup::{Cgroup, Hierarchy};
use tempfile::TempDir;

use super::boot::{self, ToDo};
use super::*;
use crate::network;
use agent::FakeAgent;
use vmm::FakeVmm;

/// A sandbox and what it is told by.
pub(crate) struct Stage {
    pub(crate) dir: TempDir,
    pub(crate) sandbox: Sandbox,
    pub(crate) agent: FakeAgent,
    pub(crate) vmm: FakeVmm,
    pub(crate) events: mpsc::Receiver<Event>,
}

/// Memory of its machine in MiB.
pub(crate) const MEMORY_MIB: u64 = 256;

/// What its containers may use together of that, in MiB.
pub(crate) const CONTAINERS_MIB: u64 = 128;

impl Stage {
    /// A sandbox whose machine boots; its guest is ready when the VMM says so.
    pub(crate) async fn booting() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity {
            namespace: Namespace::new("test").unwrap(),
            id: SandboxId::new("pod").unwrap(),
            socket: None,
        };
        let state = StateDir::at(&dir.path().join("test/pod"));
        let (events_tx, events) = mpsc::channel(64);
        let sandbox = Sandbox::start(identity, state.clone(), events_tx);
        state.create().unwrap();
        let share = Arc::new(state.create_share().unwrap());
        let agent = FakeAgent::listen(&state.vsock()).await;
        let (vmm, machine) = FakeVmm::start(dir.path(), 2, MEMORY_MIB);
        let hierarchy = Hierarchy::unified(dir.path().to_owned(), dir.path().join("home"));
        let cgroup = Cgroup::of([hierarchy], Path::new("cgroup"));
        let boot = move |owner: &mut Owner| {
            owner.cgroup = Some(cgroup.clone());
            let work = async move |unwanted: oneshot::Receiver<()>| {
                let mut network = network::begin(None, &state, 2);
                let to_do = ToDo {
                    boot: None,
                    size: machine.shape().clone(),
                    limit: Duration::from_secs(60),
                    state: &state,
                    sysctls: BTreeMap::new(),
                    configuration: ConfigureRequest {
                        memory_limit_bytes: CONTAINERS_MIB << 20,
                        ..Default::default()
                    },
                };
                let machine = Arc::new(machine);
                tokio::select! {
                    outcome = boot::reach(machine, share, to_do, &mut network, Some(&cgroup)) => outcome,
                    _ = unwanted => Err(Error::Unavailable("unwanted".into())),
                }
            };
            owner.begin_boot(work, Duration::from_secs(6));
            Ok(())
        };
        sandbox.look(boot).await.unwrap();
        Self { dir, sandbox, agent, vmm, events }
    }

    /// A sandbox whose guest serves.
    pub(crate) async fn running() -> Self {
        let stage = Self::booting().await;
        stage.vmm.ready();
        let boot = stage.sandbox.look(|owner| owner.boot(crate::Pod::default())).await.unwrap();
        booted(boot).await.unwrap();
        stage
    }

    /// A container to make, with a configuration of its own.
    pub(crate) fn request(&self, id: &str) -> CreateRequest {
        let bundle = self.dir.path().join(format!("bundle-{id}"));
        std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
        let spec = serde_json::json!({
            "ociVersion": "1.2.0",
            "process": {"args": ["true"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "linux": {"resources": {"memory": {"limit": 64 << 20}}},
        });
        std::fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        let id = ContainerId::new(id).unwrap();
        CreateRequest { id, bundle, rootfs: Vec::new(), stdio: StdioPaths::default() }
    }

    /// Lets the kernel say of the machine's cgroup what it says of one of `limit` MiB in which it
    /// has killed something.
    pub(crate) fn out_of_memory(&self, limit: u64) {
        let cgroup = self.dir.path().join("cgroup");
        std::fs::create_dir_all(&cgroup).unwrap();
        let write = |file: &str, text: String| std::fs::write(cgroup.join(file), text).unwrap();
        write("memory.max", format!("{}\n", limit << 20));
        write("memory.events", "low 0\nmax 9\noom 1\noom_kill 1\n".to_owned());
    }
}

/// A process of a container.
pub(crate) fn target(container: &str, exec: Option<&str>) -> Target {
    let exec = exec.map(|exec| ExecId::new(exec).unwrap());
    Target { container: ContainerId::new(container).unwrap(), exec }
}

/// A directory of the test's own, for fifos and files.
pub(crate) fn fifo(dir: &Path, name: &str) -> String {
    let path = dir.join(name);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    path.display().to_string()
}

mod tests;
