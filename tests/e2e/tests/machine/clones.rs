//! What clones of one saved machine have in common once their agents have configured them: nothing
//! that must be one's own. The guest is the product's, with its agent; a container in each clone runs
//! the other half of this test, `probe.rs`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_api::container::CreateContainerRequest;
use agent_api::container_ttrpc::ContainerClient;
use agent_api::process_ttrpc::ProcessClient;
use agent_api::sandbox::ConfigureRequest;
use agent_api::sandbox_ttrpc::SandboxClient;
use agent_api::types::{Empty, ProcessId, Streams};
use agent_api::{RPC_PORT, SHARE_DIR, STREAM_PORT};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::context::{Context, with_duration};
use vmm_api::{BlockConfig, DeviceConfig, Event};

use super::client::{Boot, DEADLINE, Output, Vmm, installed, vmlinux};
use super::probe::{COMMAND, PLACE, PREFIX};
use super::saved::{file, kernel, save_when_quiet};
use super::share::Share;

const MIB: u64 = 256;

/// As many as a lab has memory and patience for; `make bench` takes more.
const CLONES: usize = 8;

/// The window of a clone's share: the first behind those of the saved devices.
const SHARE_WINDOW: u32 = 4;

fn context() -> Context {
    with_duration(DEADLINE)
}

/// The devices that a template has, in their windows.
fn devices(boot: Boot, socket: &Path, output: &Output) -> Boot {
    let rootfs = installed("CUDDY_ROOTFS", "/opt/cuddy/share/cuddy/rootfs.erofs");
    let rootfs = File::open(rootfs).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    boot.vcpus(2)
        .device(|boot| {
            let file = boot.slot(rootfs.into());
            DeviceConfig::Block(BlockConfig::new(file, true, "").unwrap())
        })
        .device(|_| DeviceConfig::Rng)
        .device(|boot| DeviceConfig::Vsock { listener: boot.slot(listener.into()) })
        .device(|boot| DeviceConfig::Console { output: boot.slot(output.writer()) })
}

/// Connects to a port of the guest.
async fn connect(socket: &Path, port: u32) -> UnixStream {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"OK "), "{answer:?}");
    stream
}

async fn client(socket: &Path) -> Client {
    Client::new(Socket::new(connect(socket, RPC_PORT).await))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// What a clone of this number is told.
fn configuration(number: usize) -> ConfigureRequest {
    let mut entropy = vec![0; 64];
    File::open("/dev/urandom").unwrap().read_exact(&mut entropy).unwrap();
    ConfigureRequest {
        hostname: format!("clone-{number}"),
        clock_unix_ns: now().as_nanos().try_into().unwrap(),
        entropy,
        share_tag: "share".to_owned(),
        share_window: Some(SHARE_WINDOW),
        memory_limit_bytes: 128 << 20,
        ..ConfigureRequest::default()
    }
}

/// A share with a root file system that holds the probe.
fn share() -> Share {
    let share = Share::new();
    for name in ["root", "root/proc", "root/dev"] {
        fs::create_dir(share.path().join(name)).unwrap();
    }
    let program = std::env::current_exe().unwrap();
    fs::copy(program, share.path().join(format!("root{PLACE}"))).unwrap();
    share
}

/// Runs the probe in a clone and returns what it printed.
async fn probe(client: &Client, socket: &Path) -> String {
    let spec = json!({
        "ociVersion": "1.2.0",
        "process": {"args": COMMAND, "cwd": "/", "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": ["CAP_NET_RAW"], "effective": ["CAP_NET_RAW"],
                "permitted": ["CAP_NET_RAW"]}},
        "root": {"path": format!("{SHARE_DIR}/root"), "readonly": true},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]}
    });
    let mut output = connect(socket, STREAM_PORT).await;
    output.write_all(&1_u64.to_le_bytes()).await.unwrap();
    let request = CreateContainerRequest {
        container_id: "probe".to_owned(),
        spec_json: serde_json::to_vec(&spec).unwrap(),
        streams: Some(Streams { stdout: 1, stderr: 0, ..Streams::default() }).into(),
        ..CreateContainerRequest::default()
    };
    ContainerClient::new(client.clone()).create(context(), &request).await.unwrap();
    let process = ProcessId { container_id: "probe".to_owned(), ..ProcessId::default() };
    let processes = ProcessClient::new(client.clone());
    processes.start(context(), &process).await.unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).await.unwrap();
    let exit = processes.wait(context(), &process).await.unwrap();
    assert_eq!(exit.exit_status, 0, "{text}");
    text
}

/// What a probe found.
#[derive(Debug)]
struct Found {
    /// By its name; what is there once.
    values: HashMap<String, String>,
    /// By the port; each twice.
    secrets: Vec<(u16, u32, u32)>,
}

impl Found {
    fn parse(text: &str) -> Self {
        let mut found = Self { values: HashMap::new(), secrets: Vec::new() };
        for line in text.lines().filter_map(|line| line.strip_prefix(PREFIX)) {
            let (name, value) = line.split_once(' ').unwrap();
            if name == "secret" {
                let mut parts = value.split(' ').map(|part| part.parse::<u32>().unwrap());
                let mut next = || parts.next().unwrap();
                found.secrets.push((u16::try_from(next()).unwrap(), next(), next()));
            } else {
                let former = found.values.insert(name.to_owned(), value.to_owned());
                assert_eq!(former, None, "{text}");
            }
        }
        found
    }

    fn number(&self, name: &str) -> f64 {
        self.values[name].split(' ').next().unwrap().parse().unwrap()
    }

    /// Whether both guests seem to hash the numbers of all their connections by one secret.
    fn shares_secret(&self, other: &Self) -> bool {
        let near = |(port, one, off): &(u16, u32, u32)| {
            let others = other.secrets.iter().filter(|(other, ..)| other == port);
            let mut others =
                others.map(|(_, number, more)| (number.wrapping_sub(*one), off + more));
            others.any(|(apart, off)| apart.min(apart.wrapping_neg()) <= off + 1)
        };
        self.secrets.iter().all(near)
    }

    /// What is looked for in pairs of clones is there within one.
    fn check_control(&self) {
        let (first, second) = self.secrets.split_at(self.secrets.len() / 2);
        let half = |secrets: &[_]| Self { values: HashMap::new(), secrets: secrets.to_vec() };
        assert!(!first.is_empty() && half(first).shares_secret(&half(second)), "{self:?}");
    }

    fn check_apart(&self, other: &Self) {
        for name in ["urandom", "getrandom", "boot_id", "hostname"] {
            assert_ne!(self.values[name], other.values[name], "{name}");
        }
        assert!(!self.shares_secret(other), "{self:?} and {other:?}");
    }
}

#[tokio::test]
async fn clones_have_nothing_in_common_that_must_be_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let output = Output::new();
    let socket = directory.path().join("template");
    let boot = devices(Boot::new(vmlinux(), MIB).savable(), &socket, &output);
    let mut vmm = Vmm::boot(&boot);
    let ready = vmm.event();
    assert!(matches!(ready, Event::GuestReady { .. }), "{ready:?}: {}", output.text());
    let sandbox = SandboxClient::new(client(&socket).await);
    let kib = || boot.memory().metadata().unwrap().blocks() / 2;
    let (ready, warming) = (kib(), Instant::now());
    sandbox.warm(context(), &Empty::new()).await.unwrap();
    println!("{ready} KiB when ready; warmed in {:?}: {} KiB", warming.elapsed(), kib());
    drop(sandbox);
    // The client's own end of the connection is closed by this thread.
    let saving = move || (save_when_quiet(&mut vmm), vmm.started.elapsed());
    let (state, lived) = tokio::task::spawn_blocking(saving).await.unwrap();

    let share = share();
    let mut machines = Vec::new();
    let mut all = Vec::new();
    for number in 0..CLONES {
        let (output, socket) = (Output::new(), directory.path().join(number.to_string()));
        let boot = Boot::saved(file(&state).into(), kernel(), MIB, boot.memory().into());
        let boot = devices(boot, &socket, &output).device(|boot| share.device(boot));
        let vmm = Vmm::boot(&boot);
        let client = client(&socket).await;
        let sandbox = SandboxClient::new(client.clone());
        sandbox.configure(context(), &configuration(number)).await.unwrap();
        let (before, alone) = (now().as_secs_f64(), vmm.started.elapsed());
        let text = probe(&client, &socket).await;
        let between = before - 1.0..now().as_secs_f64() + 1.0;
        let found = Found::parse(&text);
        let wall = found.number("wall") / 1e9;
        assert!(between.contains(&wall), "{number}: {wall} is not in {between:?}: {text}");
        // A guest that had begun anew would be younger than the process of its machine.
        let (least, most) = (alone.as_secs_f64(), (lived + vmm.started.elapsed()).as_secs_f64());
        let uptime = found.number("uptime");
        assert!((least..most).contains(&uptime), "not from {least} to {most}: {text}");
        assert_eq!(found.values["hostname"], format!("clone-{number}"));
        all.push(found);
        machines.push(vmm);
    }
    for (number, one) in all.iter().enumerate() {
        one.check_control();
        all[number + 1..].iter().for_each(|other| one.check_apart(other));
    }
}
