//! `daemon`: serves one pod until its last container is deleted and containerd wants no more.

use std::collections::HashMap;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::{Namespace, SandboxId};
use containerd_shim_protos::sandbox_async::create_sandbox;
use containerd_shim_protos::shim_async::create_task;
use host::journal::Entry;
use host::store::StateDir;
use protocol::shim_ttrpc::create_shim;
use protocol::update_ttrpc::create_sandbox as create_update;
use sandbox::Sandbox;
use sandbox::sandbox::{Identity, Shutdown};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use ttrpc::r#async::transport::Listener;
use ttrpc::r#async::{Server, Service};

use crate::bootstrap::flags::Flags;
use crate::callers::callers;
use crate::listen::Inherited;
use crate::own_api::OwnService;
use crate::publish::{self, Publisher};
use crate::sandbox_api::SandboxService;
use crate::task::TaskService;
use crate::{listen, logger, start};

/// The Task service's name before containerd 2.0; its messages are those of version 3.
const TASK_V2: &str = "containerd.task.v2.Task";

/// How long the last events may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long callers may take to read their answers and hang up. containerd's client takes a
/// connection that ends right behind an answer for none (`select` in ttrpc's client.go).
const ANSWERED: Duration = Duration::from_secs(1);

/// How long the pod may take to end in order once this process was told to end. The guest has a
/// minute to flush its disks; then its machine is ended. systemd kills after 90 s.
const ORDERLY: Duration = Duration::from_secs(85);

/// Descriptors of a pod with some containers, each of which has about eight.
const DESCRIPTORS: i32 = 256;

/// Serves until the end.
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let inherited = listen::inherited().context("taking over the listener")?;
    logger::install(Path::new("log"), &flags.id, flags.debug);
    if let Err(error) = host::descriptors::make_room(DESCRIPTORS) {
        log::debug!("making room for descriptors: {error}");
    }
    // The bundle is removed while the daemon may still live.
    std::env::set_current_dir("/").context("leaving the bundle")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(flags, inherited));
    // What still waits for a filesystem of the host that does not answer keeps nobody any longer.
    runtime.shutdown_background();
    if let Err(error) = &served {
        log::error!("{error:#}");
    }
    served
}

async fn serve(flags: &Flags, inherited: Inherited) -> anyhow::Result<()> {
    let namespace = Namespace::new(&flags.namespace)?;
    let id = SandboxId::new(&flags.id)?;
    let state = StateDir::new(&namespace, &id);
    let signals = Signals::new().context("taking signals")?;
    let Inherited { listener, lock } = inherited;
    let lock = state.inherit_lock(lock).context("taking over the lock")?;
    note_process(&state).context("writing the journal")?;
    state.step("shim");
    let (events_tx, events) = mpsc::channel(publish::QUEUE);
    let address = std::env::var(start::TTRPC_ADDRESS).unwrap_or_default();
    let publisher = Publisher { address, namespace: namespace.clone(), events };
    let (end, ended) = oneshot::channel();
    let publisher = tokio::spawn(publisher.run(ended));
    let socket = Some(flags.socket.clone().into());
    let identity = Identity { namespace, id: id.clone(), socket };
    let sandbox = Sandbox::start(identity, state, events_tx);
    let (mut server, mut callers) = server(&sandbox, &id, listener)?;
    server.start().await.context("serving")?;
    // Whoever was about to start another daemon finds this one.
    drop(lock);
    closed(&sandbox, signals).await;
    let _gone = end.send(());
    if tokio::time::timeout(FAREWELL, publisher).await.is_err() {
        log::warn!("the last events could not be delivered");
    }
    // Whoever stays has had the time to read.
    let _gone = tokio::time::timeout(ANSWERED, callers.wait_for(|count| *count == 0)).await;
    server.shutdown().await.context("ending the server")
}

/// The signals by which a host that shuts down, or a person, ends this process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns the name of the first that comes.
    async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Waits until the pod is over. A signal ends it as containerd's `Shutdown` would: nothing that a
/// container has written is lost.
async fn closed(sandbox: &Sandbox, mut signals: Signals) {
    let name = tokio::select! {
        () = sandbox.closed() => return,
        name = signals.any() => name,
    };
    log::warn!("{name}: the pod ends, within {} s", ORDERLY.as_secs());
    let ending = async {
        if let Err(error) = sandbox.shutdown(Shutdown::Now).await {
            log::error!("ending the pod: {error}");
        }
        sandbox.closed().await;
    };
    if tokio::time::timeout(ORDERLY, ending).await.is_err() {
        log::error!("the pod did not end in time; its machine ends with this process");
    }
}

fn note_process(state: &StateDir) -> std::io::Result<()> {
    let pid = std::process::id();
    let started = host::spawn::start_time(pid).unwrap_or_default();
    state.create()?.add(&Entry::Process { pid, started })
}

/// The server, and how many callers it has.
fn server(
    sandbox: &Sandbox,
    id: &SandboxId,
    listener: UnixListener,
) -> anyhow::Result<(Server, watch::Receiver<usize>)> {
    let listener = tokio::net::UnixListener::from_std(listener).context("taking the listener")?;
    let service = Arc::new(TaskService::new(sandbox.clone(), id.clone()));
    let mut services = create_task(service.clone());
    services.extend(create_task(service).into_values().map(|task| (TASK_V2.to_owned(), task)));
    let pods = sandbox_services(Arc::new(SandboxService::new(sandbox.clone(), id.clone())));
    let own = create_shim(Arc::new(OwnService::new(sandbox.clone())));
    let server = Server::new().register_service(services).register_service(pods);
    let server = server.register_service(own);
    let (callers, count) = callers(listener);
    Ok((server.add_listener(Listener::new(callers)), count))
}

/// The Sandbox service, with the call that the crate of containerd's messages lacks.
fn sandbox_services(service: Arc<SandboxService>) -> HashMap<String, Service> {
    let mut services = create_sandbox(service.clone());
    for (name, more) in create_update(service) {
        if let Some(service) = services.get_mut(&name) {
            service.methods.extend(more.methods);
        }
    }
    services
}
