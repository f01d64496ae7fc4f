//! Pods as kubelet runs them: through containerd's CRI server. `life` goes through every version
//! that the lab has, with each controller; the others look at one matter each, under the newest.
//!
//! With CUDDY_TEST_HANDLER=runc they show what the tests demand of a runtime without machines.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

mod identity;
mod life;
mod processes;
mod resources;
mod streams;
mod volumes;

use std::path::PathBuf;
use std::sync::LazyLock;

use harness::containerd::versions;
use harness::cri::{Container, ContainerSpec, Cri, Daemon, Pod, PodSpec};

/// A daemon of the newest version that there is, for all tests that need no other.
static NEWEST: LazyLock<Daemon> = LazyLock::new(|| Daemon::new(&newest()));

/// The newest version's programs. The host's own is the oldest but one.
fn newest() -> PathBuf {
    versions().into_iter().filter(|path| path.starts_with("/opt")).max().unwrap()
}

/// The handlers of a daemon under which a test is to hold.
fn handlers(daemon: &Daemon) -> Vec<String> {
    match std::env::var("CUDDY_TEST_HANDLER") {
        Ok(name) => vec![name],
        Err(_) => daemon.controllers().iter().map(|one| one.handler().to_owned()).collect(),
    }
}

/// What a test has: a server, and the handler to name.
struct Node {
    cri: Cri,
    handler: String,
}

impl Node {
    fn run(&self, spec: PodSpec) -> Pod {
        self.cri.run_pod(spec.handler(&self.handler))
    }

    /// A pod with one container that stays.
    fn idle(&self, name: &str) -> (Pod, Container) {
        let pod = self.run(PodSpec::new(name));
        let container = self.cri.start_new(&pod, ContainerSpec::idle("main"));
        (pod, container)
    }
}

/// Removes all pods when a test fails, for the next one's sake.
struct Clean<'a>(&'a Daemon);

impl Drop for Clean<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.tail());
            self.0.clear();
        }
    }
}

/// Runs a test under every handler of the newest version; afterwards nothing may be left.
fn each_handler(test: impl Fn(&Node)) {
    let daemon = &*NEWEST;
    for handler in handlers(daemon) {
        one_handler(daemon, &handler, &test);
    }
}

/// Runs a test under the first controller that there is, for what does not depend on it.
fn any_handler(test: impl Fn(&Node)) {
    let daemon = &*NEWEST;
    one_handler(daemon, &handlers(daemon)[0], &test);
}

fn one_handler(daemon: &Daemon, handler: &str, test: &impl Fn(&Node)) {
    println!("containerd {}, handler {handler}", daemon.version());
    let _clean = Clean(daemon);
    test(&Node { cri: daemon.cri(), handler: handler.to_owned() });
    daemon.settled();
}
