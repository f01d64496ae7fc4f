//! What most tests of pods need no more of than: a daemon of the newest version, one handler after
//! the other, and nothing left behind.
//!
//! With CUDDY_TEST_HANDLER=runc they show what a runtime without machines does.

use std::sync::LazyLock;

use super::{Container, ContainerSpec, Cri, Daemon, Pod, PodSpec};
use crate::containerd::newest;

/// A daemon for all tests of a program that need no other.
static NEWEST: LazyLock<Daemon> = LazyLock::new(|| Daemon::new(&newest()));

/// The handlers of a daemon under which a test is to hold.
pub fn handlers(daemon: &Daemon) -> Vec<String> {
    match std::env::var("CUDDY_TEST_HANDLER") {
        Ok(name) => vec![name],
        Err(_) => daemon.controllers().iter().map(|one| one.handler().to_owned()).collect(),
    }
}

/// A server, and the handler to name.
#[derive(Debug)]
pub struct Node {
    /// The client.
    pub cri: Cri,
    /// The handler.
    pub handler: String,
}

impl Node {
    /// Runs a pod with the handler.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn run(&self, spec: PodSpec) -> Pod {
        self.cri.run_pod(spec.handler(&self.handler))
    }

    /// A pod with one container that stays.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn idle(&self, name: &str) -> (Pod, Container) {
        let pod = self.run(PodSpec::new(name));
        let container = self.cri.start_new(&pod, ContainerSpec::idle("main"));
        (pod, container)
    }
}

/// Shows the daemon's log and removes all pods when a test fails, for the next one's sake.
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
pub fn each_handler(test: impl Fn(&Node)) {
    on_daemon(&NEWEST, test);
}

/// Runs a test under the first handler that there is, for what does not depend on it.
pub fn any_handler(test: impl Fn(&Node)) {
    on_handler(&NEWEST, &handlers(&NEWEST)[0], &test);
}

/// Runs a test under every handler of a daemon.
pub fn on_daemon(daemon: &Daemon, test: impl Fn(&Node)) {
    for handler in handlers(daemon) {
        on_handler(daemon, &handler, &test);
    }
}

fn on_handler(daemon: &Daemon, handler: &str, test: &impl Fn(&Node)) {
    println!("containerd {}, handler {handler}", daemon.version());
    let _clean = Clean(daemon);
    test(&Node { cri: daemon.cri(), handler: handler.to_owned() });
    daemon.settled();
}
