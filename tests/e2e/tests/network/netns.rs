//! Network namespaces for pods.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use harness::ctr::{Name, RUNTIME};
use serde_json::{Value, json};

const PLUGINS: &str = "/usr/lib/cni";

/// Seconds that one step of a test may take: far fewer than those after which a silent lab is ended.
const LIMIT: &str = "90";

/// Runs a command within [`LIMIT`]; its output.
#[track_caller]
fn bounded<'a>(what: &str, command: impl IntoIterator<Item = &'a OsStr>) -> String {
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=5", LIMIT]).args(command);
    let output = limited.stdin(Stdio::null()).output().unwrap();
    if !output.status.success() {
        // A panic's own words come after the clean-up, which may stand still for the same reason.
        let _told = writeln!(std::io::stdout(), "{what}: {output:?}");
        panic!("{what}: {output:?}");
    }
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a shell command; its output.
#[track_caller]
pub(crate) fn sh(script: &str) -> String {
    bounded(script, ["sh", "-c", script].map(OsStr::new))
}

/// Runs `ctr`; its output.
#[track_caller]
fn ctr(arguments: &[&str]) -> String {
    let ctr = harness::ctr::command(arguments);
    bounded(&arguments.join(" "), std::iter::once(ctr.get_program()).chain(ctr.get_args()))
}

/// Runs a command in a container; its output.
#[track_caller]
pub(crate) fn exec(container: &Name, command: &[&str]) -> String {
    let id = Name::new("exec");
    let fixed = ["task", "exec", "--exec-id", id.as_str(), container.as_str()];
    ctr(&[&fixed, command].concat())
}

/// Ends and removes a container.
#[track_caller]
pub(crate) fn remove(container: &Name) {
    ctr(&["task", "rm", "--force", container.as_str()]);
    ctr(&["container", "rm", container.as_str()]);
}

/// A network namespace, removed with its interfaces when this is dropped.
#[derive(Debug)]
pub(crate) struct Netns {
    pub(crate) name: String,
    configured: Vec<Value>,
}

impl Netns {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pod{}", COUNT.fetch_add(1, Ordering::Relaxed));
        sh(&format!("ip netns add {name} && ip -n {name} link set lo up"));
        Self { name, configured: Vec::new() }
    }

    /// A namespace whose `eth0` ends in `IFNAME` of the node, without CNI.
    pub(crate) fn with_veth(node: &str) -> Self {
        let netns = Self::new();
        netns.ip(&format!("link add eth0 mtu 1400 type veth peer name {node} netns 1"));
        sh(&format!("ip addr add 10.9.0.1/24 dev {node}; ip link set {node} up"));
        sh(&format!("ip addr add fd09::1/64 dev {node} nodad"));
        netns.ip("addr add 10.9.0.2/24 dev eth0");
        netns.ip("addr add fd09::2/64 dev eth0 nodad");
        netns.ip("link set eth0 up");
        netns
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        sh(&format!("ip -n {} {arguments}", self.name))
    }

    pub(crate) fn exec(&self, command: &str) -> String {
        sh(&format!("ip netns exec {} {command}", self.name))
    }

    fn cni(&self, verb: &str, conf: &Value) -> Value {
        let plugin = Path::new(PLUGINS).join(conf["type"].as_str().unwrap());
        let mut command = Command::new("timeout");
        command.arg(LIMIT).arg(plugin);
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", &self.name);
        command.env("CNI_NETNS", format!("/run/netns/{}", self.name)).env("CNI_IFNAME", "eth0");
        command.env("CNI_PATH", PLUGINS);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(conf.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{verb} {conf}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Runs a chain of plugins as a container runtime does; the last result.
    pub(crate) fn chain(&mut self, plugins: &[Value]) -> Value {
        let mut result = Value::Null;
        for plugin in plugins {
            let mut conf = plugin.clone();
            conf["cniVersion"] = json!("1.0.0");
            conf["name"] = json!("test");
            if result != Value::Null {
                conf["prevResult"] = result;
            }
            result = self.cni("ADD", &conf);
            self.configured.push(conf);
        }
        result
    }

    /// What CNI's CHECK finds wrong would fail the test here.
    pub(crate) fn check(&self, result: &Value) {
        for conf in &self.configured {
            let mut conf = conf.clone();
            conf["prevResult"] = result.clone();
            self.cni("CHECK", &conf);
        }
    }

    /// Starts a container in it.
    pub(crate) fn start(&self, image: &str, options: &[&str], command: &[&str]) -> Name {
        let name = Name::new(&self.name);
        let netns = format!("network:/run/netns/{}", self.name);
        let fixed = ["run", "--detach", "--runtime", RUNTIME, "--with-ns", &netns];
        let rest = [image, name.as_str()];
        ctr(&[&fixed, options, &rest, command].concat());
        name
    }

    /// Nothing of ours may be in it.
    pub(crate) fn is_clean(&self) {
        let links = self.ip("link");
        assert!(!links.contains("cuddy"), "{links}");
        let qdiscs = sh(&format!("tc -n {} qdisc show", self.name));
        assert!(!qdiscs.contains("clsact"), "{qdiscs}");
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        for conf in std::mem::take(&mut self.configured).iter().rev() {
            self.cni("DEL", conf);
        }
        sh(&format!("ip netns del {}", self.name));
    }
}
