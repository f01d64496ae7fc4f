//! A containerd whose CRI server has the runtime's handlers.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::network::{BRIDGE, bridge};
use super::{Cri, api, cgroup};
use crate::containerd::Containerd;
use crate::ctr::Done;
use crate::{eventually, host};

/// The image that a node's configuration names for sandboxes; nothing of it runs in a microVM.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10";

/// What `lab-registry` serves.
const REGISTRY: &str = "http://127.0.0.1:5000";

/// File of the network's template in the daemon's directory.
const TEMPLATE: &str = "network.template";

/// Where Debian has the plug-ins.
pub(super) const PLUGINS: &str = "/usr/lib/cni";

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
    /// with [`bridge`] as its network, and waits until it is ready for pods. It has the lab's
    /// seed, that is all test images, or at least the small one and [`PAUSE`].
    ///
    /// # Panics
    /// When that fails.
    pub fn new(programs: &Path) -> Self {
        Self::with(programs, bridge, "")
    }

    /// [`Self::new`] with a network of the caller's (the argument is a directory for what the
    /// plug-ins keep) and with more configuration at its end, in the version's own form.
    ///
    /// # Panics
    /// When that fails.
    pub fn with(programs: &Path, network: impl Fn(&Path) -> String, more: &str) -> Self {
        let file =
            |dir: &Path| (dir.join("net.d/10-cuddy.conflist"), network(&dir.join("addresses")));
        let daemon = Self::start(programs, file, more);
        daemon.await_network();
        daemon.import("busybox");
        daemon.import("pause");
        daemon
    }

    /// [`Self::new`] without a network, but with the template of one, which the daemon fills in
    /// when kubelet tells it the pods' addresses; the argument is as in [`Self::with`].
    ///
    /// # Panics
    /// When that fails.
    pub fn with_template(programs: &Path, template: impl Fn(&Path) -> String) -> Self {
        let file = |dir: &Path| (dir.join(TEMPLATE), template(&dir.join("addresses")));
        let daemon = Self::start(programs, file, "");
        eventually("the runtime is ready", || daemon.is("RuntimeReady"));
        daemon.import("busybox");
        daemon.import("pause");
        daemon
    }

    /// Starts the daemon; `file` makes path and content of what describes its network.
    fn start(programs: &Path, file: impl FnOnce(&Path) -> (PathBuf, String), more: &str) -> Self {
        let containerd = Containerd::configured(programs, |dir, release| {
            seed(&dir.join("root"));
            std::fs::create_dir(dir.join("net.d")).unwrap();
            let (path, text) = file(dir);
            std::fs::write(path, text).unwrap();
            mirror(&dir.join("certs.d"));
            drop_ins(&dir.join("conf.d"), release);
            configuration(dir, release) + more
        });
        let cri = Cri::connect(&containerd.path("containerd.sock"));
        Self { containerd, cri }
    }

    /// The client.
    pub fn cri(&self) -> Cri {
        self.cri.clone()
    }

    /// Its version, such as 1.6.20.
    pub fn version(&self) -> &str {
        self.containerd.version()
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.containerd.pid()
    }

    /// The first two numbers of its version, such as (1, 6).
    pub fn release(&self) -> (u32, u32) {
        self.containerd.release()
    }

    /// The controllers it has.
    pub fn controllers(&self) -> &'static [Controller] {
        if self.release() < (2, 0) {
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

    /// Waits until runtime and network are ready.
    ///
    /// # Panics
    /// When they do not become so.
    pub fn await_network(&self) {
        eventually("runtime and network are ready", || {
            let conditions = self.conditions();
            !conditions.is_empty() && conditions.iter().all(|one| one.status)
        });
    }

    /// Whether a condition of the node holds, such as `NetworkReady`. It does not while the daemon
    /// does not answer.
    pub fn is(&self, condition: &str) -> bool {
        self.conditions().iter().any(|one| one.r#type == condition && one.status)
    }

    /// The conditions that Status tells; none while it does not answer.
    fn conditions(&self) -> Vec<api::RuntimeCondition> {
        let mut service = self.cri.runtime_service();
        let status = self.cri.wait(service.status(api::StatusRequest { verbose: false }));
        status.ok().and_then(|status| status.status).map_or_else(Vec::new, |one| one.conditions)
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
        if let Err(status) = self.cri.remove_all() {
            println!("pods of containerd {} stay: {status}", self.version());
        }
        cgroup::clear();
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.containerd.tail()
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

/// Everything of CRI that a node's administrator sets, in the form of the version.
fn configuration(dir: &Path, release: (u32, u32)) -> String {
    let dir = dir.display();
    let old = release < (2, 0);
    let (images, runtime, sandbox) = if old {
        let plugin = "plugins.'io.containerd.grpc.v1.cri'";
        (plugin, plugin, format!("[{plugin}]\nsandbox_image = '{PAUSE}'\n"))
    } else {
        let images = "plugins.'io.containerd.cri.v1.images'";
        let sandbox = format!("[{images}.pinned_images]\nsandbox = '{PAUSE}'\n");
        (images, "plugins.'io.containerd.cri.v1.runtime'", sandbox)
    };
    let programs =
        if old { format!("bin_dir = '{PLUGINS}'") } else { format!("bin_dirs = ['{PLUGINS}']") };
    // These versions do not merge files.
    let runtimes = if old {
        // The lab has no systemd.
        let text = DROP_IN_V2.replace("SystemdCgroup = true", "SystemdCgroup = false");
        text.replace("version = 2\n", "")
    } else {
        String::new()
    };
    format!(
        "{sandbox}\
         [{images}.registry]\nconfig_path = '{dir}/certs.d'\n\
         [{runtime}.cni]\n{programs}\nconf_dir = '{dir}/net.d'\n\
         conf_template = '{dir}/{TEMPLATE}'\n\
         [{runtime}.containerd]\ndefault_runtime_name = 'cuddy'\n{runtimes}\n"
    )
}

/// Installs the drop-ins where the version merges them.
fn drop_ins(directory: &Path, release: (u32, u32)) {
    if release >= (2, 0) {
        std::fs::create_dir(directory).unwrap();
        std::fs::write(directory.join("cuddy.toml"), DROP_IN_V3).unwrap();
        let mut shim = DROP_IN_SHIM.to_owned();
        if release >= (2, 4) {
            let key = "disable_pause_image_pull = true";
            shim = shim.replace(&format!("#   {key}"), key);
        }
        std::fs::write(directory.join("cuddy-sandbox.toml"), shim).unwrap();
    }
}

/// Sends every pull to the lab's registry, whatever registry the image's name has.
pub(super) fn mirror(directory: &Path) {
    let default = directory.join("_default");
    std::fs::create_dir_all(&default).unwrap();
    std::fs::write(default.join("hosts.toml"), format!("server = '{REGISTRY}'\n")).unwrap();
}
