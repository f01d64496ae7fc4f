//! Our own daemon, on a node without containerd.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::daemon::{PLUGINS, mirror};
use super::network::{BRIDGE, bridge};
use super::{Cri, api, cgroup};
use crate::{eventually, host};

/// A `cuddyd` with a state, a store and a network of its own; all its pods and itself end with the
/// value. Its images come from the lab's registry.
#[derive(Debug)]
pub struct Cuddyd {
    dir: TempDir,
    level: &'static str,
    has_cni: bool,
    child: Option<Child>,
    cri: Option<Cri>,
}

impl Cuddyd {
    /// Starts it and waits until it is ready for pods.
    ///
    /// # Panics
    /// When that fails.
    pub fn new() -> Self {
        Self::with("")
    }

    /// [`Self::new`] on a node without CNI, as a fresh one is: its pods are on the node's own bridge.
    ///
    /// # Panics
    /// When that fails.
    pub fn without_cni() -> Self {
        Self::told("", "debug", false)
    }

    /// [`Self::with`] that tells no more than it does to an operator, for measurements.
    ///
    /// # Panics
    /// When that fails.
    pub fn quiet(more: &str) -> Self {
        Self::told(more, "info", true)
    }

    /// [`Self::new`] with more settings.
    ///
    /// # Panics
    /// When that fails.
    pub fn with(more: &str) -> Self {
        Self::told(more, "debug", true)
    }

    fn told(more: &str, level: &'static str, has_cni: bool) -> Self {
        let served = Command::new("lab-registry").arg("busybox").status().unwrap();
        assert!(served.success(), "lab-registry: {served}");
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("net.d")).unwrap();
        if has_cni {
            std::fs::write(path("net.d/10-cuddy.conflist"), bridge(&path("addresses"))).unwrap();
        }
        mirror(&path("certs.d"));
        let at = dir.path().display();
        let text = format!(
            "state = '{at}/state'\nroot = '{at}/root'\nsocket = '{at}/cri.sock'\n\
             cni_conf_dir = '{at}/net.d'\ncni_bin_dirs = ['{PLUGINS}', '{at}/plugins']\n\
             registry_config = '{at}/certs.d'\ncgroup_driver = 'cgroupfs'\n{more}"
        );
        std::fs::write(path("cuddyd.toml"), text).unwrap();
        let mut daemon = Self { dir, level, has_cni, child: None, cri: None };
        daemon.start();
        daemon
    }

    /// Starts it again after [`Self::kill`].
    ///
    /// # Panics
    /// When it does not come to serve.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new("cuddyd");
        command.arg("--config").arg(self.path("cuddyd.toml")).env("RUST_LOG", self.level);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let socket = self.path("cri.sock");
        eventually("cuddyd serves", || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "cuddyd ended: {}", self.log());
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        self.cri = Some(Cri::connect(&socket));
        let condition = if self.has_cni { "NetworkReady" } else { "RuntimeReady" };
        eventually("it is ready", || self.is(condition));
    }

    /// Lets the kernel kill it at the `nth` time from now that it puts something on record, before
    /// that is acted on. strace does so, from outside: the daemon is the one that is shipped.
    ///
    /// # Panics
    /// When strace can't be attached.
    pub fn kill_at_record(&self, nth: u32) -> Killer {
        // The thread that writes them, and no other: what the daemon starts is left alone.
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().flatten();
        let named = |path: &PathBuf| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "records")
        };
        let thread = threads.map(|thread| thread.path()).find(named).unwrap();
        let mut command = Command::new("strace");
        command.args(["-qq", "-e", "trace=fdatasync"]);
        command.arg("-e").arg(format!("inject=fdatasync:signal=KILL:when={nth}"));
        command.arg("-p").arg(thread.file_name().unwrap()).stdin(Stdio::null());
        let told = File::create(self.path("strace")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(told).spawn().unwrap();
        eventually("strace is attached", || {
            let status = std::fs::read_to_string(thread.join("status")).unwrap();
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
            tracer.is_some_and(|tracer| tracer.trim() == child.id().to_string())
        });
        Killer(child)
    }

    /// Waits until it has ended, as it does when it was killed.
    ///
    /// # Panics
    /// When it goes on.
    pub fn ended(&mut self) {
        let child = self.child.as_mut().unwrap();
        eventually("cuddyd has ended", || child.try_wait().unwrap().is_some());
        (self.child, self.cri) = (None, None);
    }

    /// Kills it, as a crash does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.cri = None;
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The client.
    ///
    /// # Panics
    /// When the daemon does not run.
    pub fn cri(&self) -> Cri {
        self.cri.clone().unwrap()
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Pulls an image of the lab's registry by its short name; its id.
    ///
    /// # Panics
    /// When that fails.
    pub fn pull(&self, name: &str) -> String {
        let image = format!("cuddy.test/{name}:latest");
        let image = Some(api::ImageSpec { image, ..Default::default() });
        let request = api::PullImageRequest { image, ..Default::default() };
        let cri = self.cri();
        let mut images = cri.image_service();
        cri.wait(images.pull_image(request)).unwrap().image_ref
    }

    fn is(&self, condition: &str) -> bool {
        let cri = self.cri();
        let mut runtime = cri.runtime_service();
        let status = cri.wait(runtime.status(api::StatusRequest::default()));
        let conditions = status.unwrap().status.unwrap_or_default().conditions;
        conditions.iter().any(|one| one.r#type == condition && one.status)
    }

    /// Files and namespaces that it has of pods; none once all are removed.
    ///
    /// # Panics
    /// When they can't be read.
    pub fn remains(&self) -> Vec<PathBuf> {
        let places =
            ["state/bundles", "state/companions", "state/layers", "state/netns", "root/containers"];
        let entries = places.iter().flat_map(|place| std::fs::read_dir(self.path(place)).unwrap());
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// What kills the daemon; the value's end lets it live.
#[derive(Debug)]
pub struct Killer(Child);

impl Drop for Killer {
    fn drop(&mut self) {
        // Told to end, strace lets go of its process; killed, it would take that along.
        let _told = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).output();
        let _waited = self.0.wait();
    }
}

impl Default for Cuddyd {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cuddyd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of cuddyd\n{}", self.log());
        }
        if let Some(cri) = self.cri.take() {
            // What a test that failed has left.
            let _left = cri.remove_all();
        }
        if let Some(child) = &mut self.child {
            let _ended = child.kill();
            let _waited = child.wait();
        }
        cgroup::clear();
        // There is none if no pod had a network.
        let _none = Command::new("ip").args(["link", "del", BRIDGE]).output();
        if !std::thread::panicking() {
            host::settled();
        }
    }
}
