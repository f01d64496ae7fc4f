//! What most tests of pods need no more of than: a daemon of the newest version, one handler after
//! the other, and nothing left behind.
//!
//! With CUDDY_TEST_HANDLER=runc they show what a runtime without machines does.

use std::cell::RefCell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// Removes all pods when a test fails, for the next one's sake.
struct Clean<'a>(&'a Daemon);

impl Drop for Clean<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
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
    on_any(&NEWEST, test);
}

/// Runs a test under the first handler of a daemon.
pub fn on_any(daemon: &Daemon, test: impl Fn(&Node)) {
    on_handler(daemon, &handlers(daemon)[0], &test);
}

/// Runs a test under every handler of a daemon.
pub fn on_daemon(daemon: &Daemon, test: impl Fn(&Node)) {
    for handler in handlers(daemon) {
        on_handler(daemon, &handler, &test);
    }
}

/// A pod that several tests share, and containers that one of them has in it.
#[derive(Debug)]
pub struct Shared {
    /// The client.
    pub cri: Cri,
    /// The pod.
    pub pod: Pod,
    /// The server itself.
    pub daemon: &'static Daemon,
    started: RefCell<Vec<Container>>,
}

impl Shared {
    /// Creates and starts a container, whose name need not be its own.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn start(&self, spec: ContainerSpec) -> Container {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let spec = spec.attempt(STARTED.fetch_add(1, Ordering::Relaxed));
        let container = self.cri.start_new(&self.pod, spec);
        self.started.borrow_mut().push(container.clone());
        container
    }

    /// A container that stays.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn idle(&self) -> Container {
        self.start(ContainerSpec::idle("main"))
    }
}

/// Runs a test in a pod that it shares with all others of its program that do, one after another:
/// a machine's boot takes the lab longer than most tests do. Such a program has no test that waits
/// until nothing is left.
pub fn shared_pod(test: impl Fn(&Shared)) {
    static POD: LazyLock<Pod> = LazyLock::new(|| {
        let handler = &handlers(&NEWEST)[0];
        NEWEST.cri().run_pod(PodSpec::new("shared").handler(handler))
    });
    let node = Shared {
        cri: NEWEST.cri(),
        pod: POD.clone(),
        daemon: &NEWEST,
        started: RefCell::default(),
    };
    let _log = Tail(&NEWEST);
    test(&node);
    for container in node.started.take() {
        node.cri.remove(&container);
    }
    assert!(node.cri.ready(&node.pod), "it lives on without them");
}

/// Shows the daemon's log when a test fails.
struct Tail<'a>(&'a Daemon);

impl Drop for Tail<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.tail());
        }
    }
}

fn on_handler(daemon: &Daemon, handler: &str, test: &impl Fn(&Node)) {
    println!("containerd {}, handler {handler}", daemon.version());
    let _clean = Clean(daemon);
    // Before anything is removed.
    let _log = Tail(daemon);
    test(&Node { cri: daemon.cri(), handler: handler.to_owned() });
    daemon.settled();
}
