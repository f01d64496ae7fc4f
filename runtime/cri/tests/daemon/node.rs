//! A node: the daemon that is shipped, in a mount namespace of its own. Its shims, its CNI plugin and
//! its registry do as a test says.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use harness::cri::Cri;
use harness::cri::api::{self, ContainerConfig, PodSandboxConfig};
use harness::eventually;
use tempfile::TempDir;
use tonic::Status;

use crate::registry::Registry;
use crate::shims::Shims;

/// What the plugin answers to ADD.
const RESULT: &str = r#"{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/n"}],
    "ips": [{"address": "10.0.0.2/24", "interface": 0}]}"#;

/// What the binary of our shim does: a pod gets a shim that is free.
const SHIM: &str = r#"#!/bin/sh
[ "$1" != -info ] || { printf '\n\003own'; exit; }
for word; do
    [ "$last" != -id ] || id=$word
    last=$word
done
echo "$last $id" >>$at/shim.calls
[ ! -e $at/shim.sh ] || . $at/shim.sh
case $last in
start)
    for free in $at/free/*; do ! mv $free $at/taken/$id 2>/dev/null || break; done
    [ -e $at/taken/$id ] || cp $at/last $at/taken/$id
    read socket <$at/taken/$id
    printf '{"version":3,"address":"unix://%s","protocol":"ttrpc"}' $socket ;;
delete) printf '\020\211\001' ;;
esac
"#;

/// A plugin that notes what it is asked.
const PLUGIN: &str = r#"#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID" >>$at/cni.calls
[ ! -e $at/cni.sh ] || . $at/cni.sh
[ $CNI_COMMAND != ADD ] || cat $at/result
"#;

/// A node; everything of it ends with the value.
pub(crate) struct Node {
    pub(crate) shims: Shims,
    dir: TempDir,
    holder: Child,
    daemon: Option<Child>,
    cri: Option<Cri>,
    _registry: Registry,
}

impl Node {
    /// With a few shims.
    pub(crate) fn new() -> Self {
        Self::with(4)
    }

    /// With so many shims.
    pub(crate) fn with(shims: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        for name in ["bin", "net.d", "certs.d", "certs.d/_default", "logs"] {
            fs::create_dir(at.join(name)).unwrap();
        }
        let registry = Registry::start();
        let server = format!("server = \"{}\"\n", registry.url());
        fs::write(at.join("certs.d/_default/hosts.toml"), server).unwrap();
        fs::write(at.join("result"), RESULT).unwrap();
        let list = r#"{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "plugin"}]}"#;
        fs::write(at.join("net.d/10-net.conflist"), list).unwrap();
        program(&at.join("bin/plugin"), PLUGIN, at);
        program(&at.join("bin/containerd-shim-cuddy-v2"), SHIM, at);
        let shown = at.display();
        let settings = format!(
            "state = '{shown}/state'\nroot = '{shown}/root'\nsocket = '{shown}/cri.sock'\n\
             cni_conf_dir = '{shown}/net.d'\ncni_bin_dirs = ['{shown}/bin']\n\
             registry_config = '{shown}/certs.d'\ncgroup_driver = 'cgroupfs'\n\
             bridge = 'never'\nbridge_name = 'cuddytest'\ngroup = 'none'\n\
             container_disk = 16777216\n"
        );
        fs::write(at.join("cuddyd.toml"), settings).unwrap();
        let shims = Shims::new(at, shims);
        let mut node =
            Self { shims, holder: holder(), dir, daemon: None, cri: None, _registry: registry };
        node.start();
        node
    }

    /// Starts the daemon, also after [`Self::kill`].
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        self.daemon = Some(self.command("cuddyd.toml").stderr(log).spawn().unwrap());
        let socket = self.path("cri.sock");
        eventually("cuddyd serves", || {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "cuddyd ended: {}", self.log());
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        self.cri = Some(Cri::connect(&socket));
    }

    /// One more daemon, with the settings of a file; how it ended and what it said.
    pub(crate) fn another(&self, settings: &str) -> (ExitStatus, String) {
        let output = self.command(settings).stderr(Stdio::piped()).output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }

    fn command(&self, settings: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-t", &self.holder.id().to_string(), "--"]);
        command.arg(env!("CARGO_BIN_EXE_cuddyd")).arg("--config").arg(self.path(settings));
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env("RUST_LOG", "debug").stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.cri = None;
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What the shim's binary or the plugin does before all else; empty: nothing.
    pub(crate) fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// How often the plugin (`cni`) or the shim's binary (`shim`) was executed for this.
    pub(crate) fn executed(&self, program: &str, verb: &str) -> usize {
        let calls = fs::read_to_string(self.path(&format!("{program}.calls"))).unwrap_or_default();
        calls.lines().filter(|line| line.split(' ').next() == Some(verb)).count()
    }

    /// Files and namespaces that the daemon has of pods and containers, by their directories.
    pub(crate) fn remains(&self) -> Vec<String> {
        let mut remains = Vec::new();
        for place in ["state/bundles", "state/netns", "root/containers"] {
            let entries = fs::read_dir(self.path(place)).unwrap();
            remains.extend(
                entries.map(|entry| {
                    format!("{place}/{}", entry.unwrap().file_name().to_string_lossy())
                }),
            );
        }
        remains.sort();
        remains
    }

    /// That there is neither a pod nor anything of one.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        assert_eq!(self.remains(), Vec::<String>::new(), "{}", self.log());
        assert_eq!(self.pods(), Vec::<api::PodSandbox>::new());
        assert_eq!(self.containers(), Vec::<api::Container>::new());
        let (added, deleted) = (self.executed("cni", "ADD"), self.executed("cni", "DEL"));
        assert!(deleted >= added, "{added} ADD, {deleted} DEL");
    }

    pub(crate) fn cri(&self) -> &Cri {
        self.cri.as_ref().unwrap()
    }

    /// Pulls the image of [`container`].
    pub(crate) fn pull(&self) -> String {
        self.pull_tag("latest")
    }

    pub(crate) fn pull_tag(&self, tag: &str) -> String {
        let image = Some(image(&format!("test/image:{tag}")));
        let request = api::PullImageRequest { image, ..Default::default() };
        self.cri().wait(self.cri().image_service().pull_image(request)).unwrap().image_ref
    }

    pub(crate) fn pod(&self, name: &str) -> PodSandboxConfig {
        let metadata = api::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            attempt: 0,
        };
        let log_directory = self.path("logs").join(name).display().to_string();
        PodSandboxConfig { metadata: Some(metadata), log_directory, ..Default::default() }
    }

    pub(crate) fn run(&self, config: &PodSandboxConfig) -> Result<String, Status> {
        self.run_within(config, None)
    }

    pub(crate) fn run_within(
        &self,
        config: &PodSandboxConfig,
        limit: Option<Duration>,
    ) -> Result<String, Status> {
        let message = api::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        let mut request = tonic::Request::new(message);
        limit.into_iter().for_each(|limit| request.set_timeout(limit));
        let answer = self.cri().wait(self.cri().runtime_service().run_pod_sandbox(request));
        answer.map(|answer| answer.pod_sandbox_id)
    }

    pub(crate) fn create(
        &self,
        pod: &str,
        of: &PodSandboxConfig,
        config: &ContainerConfig,
    ) -> Result<String, Status> {
        let request = create_request(pod, of, config);
        let answer = self.cri().wait(self.cri().runtime_service().create_container(request));
        answer.map(|answer| answer.container_id)
    }

    pub(crate) fn start_container(&self, id: &str) -> Result<(), Status> {
        let request = api::StartContainerRequest { container_id: id.to_owned() };
        self.cri().wait(self.cri().runtime_service().start_container(request)).map(drop)
    }

    /// A pod with a container that runs: their ids.
    pub(crate) fn running(&self, name: &str) -> (String, String) {
        let config = self.pod(name);
        let pod = self.run(&config).unwrap();
        let container = self.create(&pod, &config, &container("main")).unwrap();
        self.start_container(&container).unwrap();
        (pod, container)
    }

    pub(crate) fn stop_pod(&self, id: &str) -> Result<(), Status> {
        let request = api::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.cri().wait(self.cri().runtime_service().stop_pod_sandbox(request)).map(drop)
    }

    /// Stops and removes a pod.
    pub(crate) fn remove(&self, id: &str) {
        self.stop_pod(id).unwrap();
        let request = api::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.cri().wait(self.cri().runtime_service().remove_pod_sandbox(request)).unwrap();
    }

    pub(crate) fn pods(&self) -> Vec<api::PodSandbox> {
        let request = api::ListPodSandboxRequest::default();
        self.cri().wait(self.cri().runtime_service().list_pod_sandbox(request)).unwrap().items
    }

    pub(crate) fn containers(&self) -> Vec<api::Container> {
        let request = api::ListContainersRequest::default();
        self.cri().wait(self.cri().runtime_service().list_containers(request)).unwrap().containers
    }

    pub(crate) fn pod_status(&self, id: &str) -> api::PodSandboxStatus {
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        let answer = self.cri().wait(self.cri().runtime_service().pod_sandbox_status(request));
        answer.unwrap().status.unwrap()
    }

    pub(crate) fn status(&self, id: &str) -> api::ContainerStatus {
        let request = api::ContainerStatusRequest { container_id: id.into(), verbose: false };
        let answer = self.cri().wait(self.cri().runtime_service().container_status(request));
        answer.unwrap().status.unwrap()
    }

    /// Waits until a container has ended.
    pub(crate) fn exited(&self, id: &str) -> api::ContainerStatus {
        let ended = || self.status(id).state() == api::ContainerState::ContainerExited;
        eventually("the container has ended", ended);
        self.status(id)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of cuddyd\n{}", self.log());
        }
        for process in self.daemon.iter_mut().chain([&mut self.holder]) {
            let _ended = process.kill();
            let _waited = process.wait();
        }
    }
}

/// A process that keeps a mount namespace, and with it what is mounted there.
fn holder() -> Child {
    let mut command = Command::new("unshare");
    command.args(["-m", "--", "sh", "-c", "echo; exec sleep 1000000"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "\n", "tests of the daemon need root");
    child
}

fn program(path: &Path, text: &str, at: &Path) {
    let (first, rest) = text.split_once('\n').unwrap();
    let mut file = File::create(path).unwrap();
    write!(file, "{first}\nat={}\n{rest}", at.display()).unwrap();
    file.set_permissions(Permissions::from_mode(0o755)).unwrap();
}

pub(crate) fn image(name: &str) -> api::ImageSpec {
    api::ImageSpec { image: name.to_owned(), ..Default::default() }
}

pub(crate) fn container(name: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(api::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(image("test/image:latest")),
        command: vec!["/sleep".to_owned()],
        log_path: format!("{name}/0.log"),
        ..Default::default()
    }
}

pub(crate) fn create_request(
    pod: &str,
    of: &PodSandboxConfig,
    config: &ContainerConfig,
) -> api::CreateContainerRequest {
    api::CreateContainerRequest {
        pod_sandbox_id: pod.to_owned(),
        config: Some(config.clone()),
        sandbox_config: Some(of.clone()),
    }
}
