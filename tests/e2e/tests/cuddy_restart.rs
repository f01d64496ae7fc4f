//! Containers that are started again, containers that share a machine, and their published ports.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness::cri::{Cuddyd, PodSpec};
use harness::cuddy::{Cuddy, IMAGE, logs_of};
use harness::{eventually, host};
use serde_json::Value;

/// How long a container has yet to wait until it is started again; none if it does not wait.
fn wait_of(container: &Value) -> Option<Duration> {
    let at = u64::try_from(container["restartAt"].as_i64()?).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Some(Duration::from_nanos(at).saturating_sub(now))
}

/// Waits until a container is to wait for so long at least. It waits longer with each restart.
fn waits(cuddy: &Cuddy, name: &str, least: Duration) {
    let restarts = |container: &Value| container["restarts"].as_u64().unwrap();
    let mut is_long = false;
    while !is_long {
        let before = restarts(&cuddy.inspect(name));
        eventually("it waits, or is started again", || {
            let now = cuddy.inspect(name);
            is_long = wait_of(&now).is_some_and(|wait| wait >= least);
            is_long || restarts(&now) > before
        });
    }
}

#[test]
fn container_is_started_again_as_its_policy_says() {
    let daemon = Cuddyd::new();
    let cuddy = Cuddy::new(&daemon);
    let script = "echo run >> /runs; wc -l < /runs; exit 3";
    let policy = "on-failure:4";
    let run = ["run", "-d", "--name", "fails", "--restart", policy, IMAGE, "sh", "-c", script];
    let id = cuddy.said(&run);
    // It waits 800 ms before its last start, and the daemon is asked twice a second.
    let followed = cuddy.done(&["logs", "-f", "fails"]);
    assert_eq!(String::from_utf8_lossy(&followed.stdout), "1\n2\n3\n4\n5\n", "{followed:?}");
    eventually("its machine has ended", || host::shims().is_empty());
    let all = cuddy.json(&["ps", "-a", "--json"]);
    assert_eq!((&all[0]["id"], &all[0]["state"]), (&id.trim().into(), &"exited".into()));
    assert_eq!((&all[0]["restarts"], &all[0]["exitCode"]), (&4.into(), &3.into()));
    assert_eq!(all[0]["restartAt"], Value::Null);
    cuddy.said(&["rm", "fails"]);
    assert!(logs_of("fails").is_empty(), "{:?}", logs_of("fails"));
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

#[test]
fn who_stops_a_container_that_waits_for_its_restart_ends_the_waiting() {
    let mut daemon = Cuddyd::new();
    let cuddy = Cuddy::new(&daemon);
    let again = |name, policy| {
        cuddy.said(&["run", "-d", "--name", name, "--restart", policy, IMAGE, "false"])
    };
    again("first", "unless-stopped");
    let second = ["run", "-d", "--pod", "first", "--name", "second", "--restart", "always", IMAGE];
    cuddy.said(&[&second[..], &["false"]].concat());
    let long = Duration::from_secs(3);
    waits(&cuddy, "first", long);
    let shown = cuddy.said(&["ps"]);
    assert!(shown.contains("Restarting (1) in ") && shown.contains(", restarted "), "{shown}");
    assert!(cuddy.refused(1, &["start", "first"]).contains("cuddy run"));
    cuddy.said(&["stop", "first"]);
    let first = cuddy.inspect("first");
    assert_eq!((wait_of(&first), &first["state"]), (None, &"exited".into()));
    assert_eq!(host::shims().len(), 1, "the second needs the machine");
    let count = |name| cuddy.inspect(name)["restarts"].as_u64().unwrap();
    let before = (count("first"), count("second"));
    // A daemon that comes back knows the same.
    daemon.kill();
    daemon.start();
    waits(&cuddy, "second", long);
    assert_eq!(count("first"), before.0, "it was stopped");
    assert!(count("second") >= before.1);
    cuddy.said(&["kill", "second"]);
    assert!(host::shims().is_empty(), "the machine has ended when the command has");
    let shown = cuddy.said(&["ps"]);
    assert!(!shown.contains("second"), "{shown}");
    cuddy.said(&["rm", "first", "second"]);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

/// What the node's port `port` answers to a request for a page.
fn page(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Whether an echo comes from the node's port `port`, within the patience of this test.
fn echoes(port: u16) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let begun = Instant::now();
    let mut answer = [0; 16];
    while begun.elapsed() < harness::PATIENCE {
        socket.send_to(b"marco", ("127.0.0.1", port)).unwrap();
        if socket.recv(&mut answer).is_ok_and(|length| &answer[..length] == b"marco") {
            return true;
        }
    }
    false
}

/// This program's other half, in a container: it answers what comes by UDP, for ever.
fn echo() {
    let socket = UdpSocket::bind("0.0.0.0:53").unwrap();
    let mut piece = [0; 64];
    loop {
        let (length, from) = socket.recv_from(&mut piece).unwrap();
        socket.send_to(&piece[..length], from).unwrap();
    }
}

#[test]
fn ports_lead_to_a_machine_on_the_nodes_own_bridge_and_containers_share_it() {
    if std::env::var_os("ECHO").is_some() {
        return echo();
    }
    let daemon = Cuddyd::without_cni();
    let cuddy = Cuddy::new(&daemon);
    let script = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www";
    let ports = ["-p", "8081:80", "-p", "127.0.0.1:5353:53/udp"];
    let named = [&["run", "-d", "--name", "web"][..], &ports].concat();
    cuddy.said(&[&named[..], &[IMAGE, "sh", "-c", script]].concat());
    let shown = cuddy.said(&["ps"]);
    assert!(shown.contains("0.0.0.0:8081->80/tcp, 127.0.0.1:5353->53/udp"), "{shown}");
    let joined = ["run", "--rm", "--pod", "web", IMAGE, "wget", "-q", "-O-", "http://localhost/"];
    eventually("the server serves", || cuddy.done(&joined).stdout == b"hello\n");
    assert!(page(8081).ends_with("hello\n"), "{}", page(8081));

    let own = std::env::current_exe().unwrap().display().to_string();
    let volume = format!("{own}:/echo:ro");
    let test = "ports_lead_to_a_machine_on_the_nodes_own_bridge_and_containers_share_it";
    let server = ["-d", "--pod", "web", "--name", "names", "-e", "ECHO=1", "-v", &volume, IMAGE];
    let server = [&["run"][..], &server, &["/echo", "--exact", test, "--nocapture"]].concat();
    cuddy.said(&server);
    assert!(echoes(5353), "{}", cuddy.said(&["logs", "names"]));

    let taken = |port: &str| cuddy.refused(125, &["run", "-p", port, IMAGE, "true"]);
    let text = taken("8081:80");
    assert!(text.contains("port 8081/tcp of this node is taken by pod"), "{text}");
    let process = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = process.local_addr().unwrap().port();
    let text = taken(&format!("{port}:80"));
    assert!(text.contains("is taken by a process of this node"), "{text}");
    assert!(taken("80").contains("80:80") && taken("0:80").contains("is no port"));
    let text = cuddy.refused(125, &["run", "--name", "web", IMAGE, "true"]);
    assert!(text.contains("is taken by container"), "{text}");

    cuddy.said(&["rm", "-f", "web"]);
    let text = cuddy.refused(125, &["run", "--name", "web", IMAGE, "true"]);
    assert!(text.contains("the pod that container \"names\" is in"), "{text}");
    cuddy.said(&["stop", "-t", "0", "names"]);
    assert!(host::shims().is_empty());
    // They are free at once.
    cuddy.said(&[&["run", "--rm"][..], &ports, &[IMAGE, "true"]].concat());
    cuddy.said(&["rm", "names"]);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

#[test]
fn pod_that_a_killed_run_has_left_can_be_removed_by_its_name() {
    let daemon = Cuddyd::new();
    let cuddy = Cuddy::new(&daemon);
    let mut left = PodSpec::new("killed");
    for (label, value) in [("cuddy.run", "0"), ("cuddy.name", "killed")] {
        left.config.labels.insert(label.into(), value.into());
    }
    daemon.cri().run_pod(left);
    let text = cuddy.refused(125, &["run", "--name", "killed", IMAGE, "true"]);
    assert!(text.contains("`cuddy rm killed` frees it"), "{text}");
    cuddy.said(&["rm", "killed"]);
    assert!(daemon.cri().pods().is_empty());
    // Nobody else's pods are removed so.
    let pod = daemon.cri().run_pod(PodSpec::new("theirs"));
    assert!(cuddy.refused(1, &["rm", "theirs"]).contains("no container"));
    daemon.cri().remove_pod(&pod);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}
