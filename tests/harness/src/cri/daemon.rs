//! A containerd whose CRI server has the runtime's handlers.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::network::{BRIDGE, conflist};
use super::{Cri, api, cgroup};
use crate::containerd::Containerd;
use crate::ctr::Done;
use crate::{eventually, host};

/// The image that a node's configuration names for sandboxes; nothing of it runs in a microVM.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10";

/// What `lab-registry` serves.
const REGISTRY: &str = "http://127.0.0.1:5000";

/// Where Debian has the plug-ins.
const PLUGINS: &str = "/usr/lib/cni";

/// What administrators install; the tests' daemons have it word for word.
const DROP_IN_V2: &str = include_str!("../../../../deploy/containerd/config-v2.toml");
const DROP_IN_V3: &str = include_str!("../../../../deploy/containerd/config-v3.toml");
const DROP_IN_SHIM: &str =
    include_str!("../../../../deploy/containerd/config-v3-sandboxer-shim.toml");

/// What CRI's containers and images are in.
const NAMESPACE: &str = "k8s.io";

/// Who drives a pod's sandbox in containerd: the name is the handler's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// A container is made for it, which the shim answers; every version has it.
    Podsandbox,
    /// The shim's own Sandbox service, from 2.0 on.
    Shim,
}

impl Controller {
    /// The handler to name in [`super::PodSpec::handler`].
    pub fn handler(self) -> &'static str {
        match self {
            Self::Podsandbox => "cuddy",
            Self::Shim => "cuddy-sandbox",
        }
    }
}

/// A daemon with CRI; all its pods and itself end with the value.
///
/// Handlers: `cuddy` (the default, controller `podsandbox`), `cuddy-sandbox` (controller `shim`,
/// from 2.0 on) and `runc`.
#[derive(Debug)]
pub struct Daemon {
    containerd: Containerd,
    cri: Cri,
}

impl Daemon {
    /// Starts the daemon of the version in `programs` (one of [`crate::containerd::versions`]),
    /// with [`conflist`] as its network, and waits until it is ready for pods. It has the lab's
    /// seed, that is all test images, or at least the small one and [`PAUSE`].
    ///
    /// # Panics
    /// When that fails.
    pub fn new(programs: &Path) -> Self {
        Self::with(programs, conflist, "")
    }

    /// [`Self::new`] with a network of the caller's (the argument is a directory for what the
    /// plug-ins keep) and with more configuration at its end, in the version's own form.
    ///
    /// # Panics
    /// When that fails.
    pub fn with(programs: &Path, network: impl Fn(&Path) -> String, more: &str) -> Self {
        let containerd = Containerd::configured(programs, |dir, major| {
            seed(&dir.join("root"));
            let plugins = dir.join("net.d");
            std::fs::create_dir(&plugins).unwrap();
            let text = network(&dir.join("addresses"));
            std::fs::write(plugins.join("10-cuddy.conflist"), text).unwrap();
            mirror(&dir.join("certs.d"));
            configuration(dir, major) + more
        });
        let cri = Cri::connect(&containerd.path("containerd.sock"));
        let daemon = Self { containerd, cri };
        daemon.await_network();
        daemon.import("busybox");
        daemon.import("pause");
        daemon
    }

    /// The client.
    pub fn cri(&self) -> Cri {
        self.cri.clone()
    }

    /// Its version, such as 1.6.20.
    pub fn version(&self) -> &str {
        self.containerd.version()
    }

    /// The number before the first dot.
    pub fn major(&self) -> u32 {
        self.containerd.major()
    }

    /// The controllers it has.
    pub fn controllers(&self) -> &'static [Controller] {
        if self.major() < 2 {
            &[Controller::Podsandbox]
        } else {
            &[Controller::Podsandbox, Controller::Shim]
        }
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.containerd.path(name)
    }

    /// A pod's bundle, wherever the version and the controller have it.
    ///
    /// # Panics
    /// When there is none.
    pub fn bundle(&self, pod: &super::Pod) -> PathBuf {
        let parts = std::fs::read_dir(self.path("state")).unwrap().flatten();
        let bundles = parts.map(|part| part.path().join(NAMESPACE).join(&pod.id));
        bundles.into_iter().find(|bundle| bundle.join("address").exists()).unwrap()
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.containerd.log()
    }

    /// Runs this version's `ctr` on CRI's containers and images.
    pub fn ctr(&self, arguments: &[&str]) -> Done {
        self.containerd.ctr(&[&["--namespace", NAMESPACE], arguments].concat())
    }

    /// Makes a test image (`busybox`, `debian`, …) known, if it is not: 2 s for a small one, 15 s
    /// for one with Debian in it. Its name is `cuddy.test/NAME:latest`.
    ///
    /// # Panics
    /// When that fails.
    pub fn import(&self, name: &str) {
        let full =
            if name == "pause" { PAUSE.to_owned() } else { format!("cuddy.test/{name}:latest") };
        if self.cri.image(&full).is_none() {
            self.ctr(&["images", "import", &format!("/opt/cuddy/images/{name}.tar")]).ok();
            eventually("the image is known to CRI", || self.cri.image(&full).is_some());
        }
    }

    fn await_network(&self) {
        let ready = || {
            let mut service = self.cri.runtime_service();
            let status = self.cri.wait(service.status(api::StatusRequest { verbose: false }));
            let conditions = status.ok().and_then(|status| status.status);
            conditions.is_some_and(|status| status.conditions.iter().all(|one| one.status))
        };
        eventually("runtime and network are ready", ready);
    }

    /// Ends the daemon by force, as a crash would; pods stay.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.containerd.kill();
    }

    /// Starts the daemon again.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn restart(&mut self) {
        self.containerd.start();
        self.await_network();
    }

    /// What is left of pods: sandboxes of the runtime, bundles, mounts, network namespaces.
    pub fn remains(&self) -> Vec<String> {
        let mut found = host::remains();
        found.extend(self.cri.pods().iter().map(|pod| format!("pod {pod}")));
        for kind in ["runtime.v2.task", "sandbox.controller.v1.shim", "grpc.v1.cri/sandboxes"] {
            for namespace in ["", NAMESPACE] {
                let dir = self.path(&format!("state/io.containerd.{kind}/{namespace}"));
                let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
                let entries = entries.filter(|entry| entry.file_name() != NAMESPACE);
                found.extend(entries.map(|entry| entry.path().display().to_string()));
            }
        }
        let mounts = host::mounts(&self.path("state"));
        found.extend(mounts.iter().map(|point| format!("mount {}", point.display())));
        let cgroups = cgroup::remains();
        found.extend(cgroups.iter().map(|path| path.display().to_string()));
        let spaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let spaces = spaces.filter(|entry| entry.file_name().to_string_lossy().starts_with("cni-"));
        found.extend(spaces.map(|entry| entry.path().display().to_string()));
        found
    }

    /// What containerd and CNI's plug-ins keep, for pods and for good: containers, snapshots,
    /// addresses in use, rules of the packet filter. Nobody's pod adds to it once it is removed.
    ///
    /// # Panics
    /// When it can't be listed.
    pub fn kept(&self) -> Vec<String> {
        let mut found = Vec::new();
        for kind in ["containers", "snapshots"] {
            let list = self.ctr(&[kind, "list"]).ok();
            let keys = list.lines().skip(1).filter_map(|line| line.split_whitespace().next());
            found.extend(keys.map(|key| format!("{kind}: {key}")));
        }
        for network in std::fs::read_dir(self.path("addresses")).into_iter().flatten().flatten() {
            let addresses = std::fs::read_dir(network.path()).unwrap().flatten();
            found.extend(addresses.map(|entry| entry.path().display().to_string()));
        }
        for program in ["iptables-save", "ip6tables-save"] {
            let done = Command::new(program).output().unwrap();
            assert!(done.status.success(), "{program}: {done:?}");
            let rules = String::from_utf8_lossy(&done.stdout);
            // Comments have the time, and chains' lines end in counters.
            let rules = rules.lines().filter(|line| !line.starts_with('#'));
            found.extend(rules.map(|rule| rule.split(" [").next().unwrap_or(rule).to_owned()));
        }
        found
    }

    /// Waits until nothing of any pod is left.
    ///
    /// # Panics
    /// With what is left when patience ends.
    #[track_caller]
    pub fn settled(&self) {
        let mut left = self.remains();
        let end = std::time::Instant::now() + crate::PATIENCE;
        while !left.is_empty() {
            assert!(std::time::Instant::now() < end, "{} left behind {left:#?}", self.version());
            std::thread::sleep(std::time::Duration::from_millis(100));
            left = self.remains();
        }
    }

    /// Removes every pod, as well as it goes: for what comes after a failure.
    pub fn clear(&self) {
        if let Err(status) = self.remove_all() {
            println!("pods of containerd {} stay: {status}", self.version());
        }
        cgroup::clear();
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.containerd.tail()
    }

    fn remove_all(&self) -> Result<(), tonic::Status> {
        let mut service = self.cri.runtime_service();
        let request = api::ListPodSandboxRequest { filter: None };
        for pod in self.cri.wait(service.list_pod_sandbox(request))?.items {
            let pod_sandbox_id = pod.id;
            let request = api::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
            self.cri.wait(service.stop_pod_sandbox(request))?;
            let request = api::RemovePodSandboxRequest { pod_sandbox_id };
            self.cri.wait(service.remove_pod_sandbox(request))?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.clear();
        // There is none if no pod had a network.
        let _none = Command::new("ip").args(["link", "del", BRIDGE]).output();
        // The seed's, or what a test that failed has left.
        for point in host::mounts(&self.path("")).iter().rev() {
            let _gone = Command::new("umount").arg("--lazy").arg(point).output();
        }
    }
}

/// Gives a daemon's root directory the lab's seed, if there is one.
fn seed(root: &Path) {
    let done = Command::new("lab-seed-into").arg(root).output().unwrap();
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() || output.contains("no seed"), "{done:?}");
}

/// Everything of CRI that a node's administrator sets, in the form of the major version.
fn configuration(dir: &Path, major: u32) -> String {
    let dir = dir.display();
    let (images, runtime, sandbox) = if major < 2 {
        let plugin = "plugins.'io.containerd.grpc.v1.cri'";
        (plugin, plugin, format!("[{plugin}]\nsandbox_image = '{PAUSE}'\n"))
    } else {
        let images = "plugins.'io.containerd.cri.v1.images'";
        let sandbox = format!("[{images}.pinned_images]\nsandbox = '{PAUSE}'\n");
        (images, "plugins.'io.containerd.cri.v1.runtime'", sandbox)
    };
    let programs = if major < 2 {
        format!("bin_dir = '{PLUGINS}'")
    } else {
        format!("bin_dirs = ['{PLUGINS}']")
    };
    let drop_ins = if major < 2 {
        // The lab has no systemd.
        DROP_IN_V2.replace("SystemdCgroup = true", "SystemdCgroup = false")
    } else {
        format!("{DROP_IN_V3}{DROP_IN_SHIM}")
    };
    let drop_ins = drop_ins.lines().filter(|line| !line.starts_with("version"));
    let drop_ins = drop_ins.collect::<Vec<_>>().join("\n");
    format!(
        "{sandbox}\
         [{images}.registry]\nconfig_path = '{dir}/certs.d'\n\
         [{runtime}.cni]\n{programs}\nconf_dir = '{dir}/net.d'\n\
         [{runtime}.containerd]\ndefault_runtime_name = 'cuddy'\n{drop_ins}\n"
    )
}

/// Sends every pull to the lab's registry, whatever registry the image's name has.
fn mirror(directory: &Path) {
    let default = directory.join("_default");
    std::fs::create_dir_all(&default).unwrap();
    std::fs::write(default.join("hosts.toml"), format!("server = '{REGISTRY}'\n")).unwrap();
}
