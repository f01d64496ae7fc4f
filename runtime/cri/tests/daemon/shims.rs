//! Shims that answer as our own does, without a machine: each in a thread of its own, on a socket of
//! its own. What a test says to a call comes before that.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::net::UnixListener as Socket;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    ConnectResponse, CreateTaskResponse, DeleteResponse, StartResponse, StateResponse, Status,
    WaitResponse,
};
use containerd_shim_protos::sandbox_api::WaitSandboxResponse;
use protobuf::{EnumOrUnknown, Message, MessageField, UnknownValueRef};
use protocol::shim::{Container, ListResponse, User};
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use ttrpc::r#async::transport::Listener;
use ttrpc::r#async::{MethodHandler, Server, Service, TtrpcContext};
use ttrpc::proto::{Request, Response};
use ttrpc::{Code, get_status};

const TASK: &str = "containerd.task.v3.Task";
const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";
const OWN: &str = "cuddy.shim.v1.Shim";

/// All calls that the daemon makes.
const CALLS: [(&str, &[&str]); 3] = [
    (TASK, &["Connect", "State", "Create", "Start", "Kill", "Wait", "Delete", "Update"]),
    (
        SANDBOX,
        &[
            "CreateSandbox",
            "StartSandbox",
            "StopSandbox",
            "WaitSandbox",
            "ShutdownSandbox",
            "UpdateSandbox",
        ],
    ),
    (OWN, &["List", "ReopenLog", "Metrics"]),
];

/// What a test says to a call.
#[derive(Clone)]
pub(crate) enum Say {
    /// It is refused.
    Refuse(Code, &'static str),
    /// It goes on once the test opens this.
    Wait(Gate),
}

/// Calls that are held up until the test lets them go on.
#[derive(Clone)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    async fn pass(&self) {
        let mut open = self.0.subscribe();
        open.wait_for(|open| *open).await.unwrap();
    }
}

type Rule = Arc<dyn Fn(&Request) -> Option<Say> + Send + Sync>;

/// How a container's process is.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Created,
    Running,
    Stopped(u32),
}

/// What a shim knows.
struct World {
    rule: Arc<Mutex<Rule>>,
    containers: Mutex<BTreeMap<String, watch::Sender<Phase>>>,
    over: watch::Sender<bool>,
    calls: Mutex<Vec<String>>,
    end: Mutex<Option<oneshot::Sender<()>>>,
}

struct Call(Arc<World>);

type Answer = Result<Vec<u8>, (Code, String)>;

#[async_trait]
impl MethodHandler for Call {
    async fn handler(&self, _: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        let world = &self.0;
        world.calls.lock().unwrap().push(request.method.clone());
        let rule = world.rule.lock().unwrap().clone();
        let answer = match rule(&request) {
            Some(Say::Refuse(code, text)) => Err((code, text.to_owned())),
            Some(Say::Wait(gate)) => {
                gate.pass().await;
                world.answer(&request).await
            }
            None => world.answer(&request).await,
        };
        let mut response = Response::new();
        match answer {
            Ok(payload) => response.payload = payload,
            Err((code, text)) => response.set_status(get_status(code, text)),
        }
        Ok(response)
    }
}

fn bytes(message: &impl Message) -> Answer {
    Ok(message.write_to_bytes().unwrap())
}

/// A field of any request.
fn field(request: &Request, number: u32) -> Option<Vec<u8>> {
    let any = protobuf::well_known_types::empty::Empty::parse_from_bytes(&request.payload);
    let any = any.unwrap();
    any.special_fields.unknown_fields().iter().find_map(|(found, value)| match value {
        UnknownValueRef::LengthDelimited(value) if found == number => Some(value.to_vec()),
        _ => None,
    })
}

impl World {
    async fn answer(&self, request: &Request) -> Answer {
        // All requests begin with the id.
        let id = String::from_utf8(field(request, 1).unwrap_or_default()).unwrap();
        match &*request.method {
            "Connect" => bytes(&ConnectResponse { shim_pid: 77, ..Default::default() }),
            "Create" => {
                self.containers.lock().unwrap().insert(id, watch::channel(Phase::Created).0);
                bytes(&CreateTaskResponse { pid: 78, ..Default::default() })
            }
            "Start" => {
                self.set(&id, Phase::Running)?;
                bytes(&StartResponse { pid: 78, ..Default::default() })
            }
            "State" => {
                let (status, exit_status) = match *self.process(&id)?.borrow() {
                    Phase::Created => (Status::CREATED, 0),
                    Phase::Running => (Status::RUNNING, 0),
                    Phase::Stopped(code) => (Status::STOPPED, code),
                };
                let status = EnumOrUnknown::new(status);
                bytes(&StateResponse { status, exit_status, ..Default::default() })
            }
            "Kill" => {
                self.process(&id)?;
                self.exit(&id, 137);
                Ok(Vec::new())
            }
            "Wait" => {
                let exit_status = self.ended(&id).await?;
                bytes(&WaitResponse { exit_status, ..Default::default() })
            }
            "Delete" => self.delete(&id),
            "StopSandbox" => {
                self.stop();
                Ok(Vec::new())
            }
            "WaitSandbox" => {
                self.over.subscribe().wait_for(|over| *over).await.unwrap();
                bytes(&WaitSandboxResponse::default())
            }
            "ShutdownSandbox" => {
                drop(self.end.lock().unwrap().take());
                Ok(Vec::new())
            }
            "List" => bytes(&self.list()),
            _ => Ok(Vec::new()),
        }
    }

    fn process(&self, id: &str) -> Result<watch::Receiver<Phase>, (Code, String)> {
        let containers = self.containers.lock().unwrap();
        let found = containers.get(id).map(watch::Sender::subscribe);
        found.ok_or_else(|| (Code::NOT_FOUND, format!("no container {id:?}")))
    }

    fn set(&self, id: &str, phase: Phase) -> Result<(), (Code, String)> {
        self.process(id)?;
        self.containers.lock().unwrap()[id].send_replace(phase);
        Ok(())
    }

    /// Its process ends, if it has not.
    fn exit(&self, id: &str, code: u32) {
        self.containers.lock().unwrap()[id].send_if_modified(|phase| {
            let lives = !matches!(phase, Phase::Stopped(_));
            if lives {
                *phase = Phase::Stopped(code);
            }
            lives
        });
    }

    fn stop(&self) {
        let ids: Vec<_> = self.containers.lock().unwrap().keys().cloned().collect();
        ids.iter().for_each(|id| self.exit(id, 137));
        self.over.send_replace(true);
    }

    async fn ended(&self, id: &str) -> Result<u32, (Code, String)> {
        let mut process = self.process(id)?;
        let ended = process.wait_for(|phase| matches!(phase, Phase::Stopped(_))).await;
        match ended.as_deref() {
            Ok(Phase::Stopped(code)) => Ok(*code),
            _ => Err((Code::NOT_FOUND, "it was deleted".to_owned())),
        }
    }

    fn delete(&self, id: &str) -> Answer {
        let Phase::Stopped(exit_status) = *self.process(id)?.borrow() else {
            return Err((Code::FAILED_PRECONDITION, "it has not ended".to_owned()));
        };
        self.containers.lock().unwrap().remove(id);
        bytes(&DeleteResponse { exit_status, ..Default::default() })
    }

    fn list(&self) -> ListResponse {
        let containers = self.containers.lock().unwrap();
        let listed = containers.keys().map(|id| Container {
            id: id.clone(),
            user: MessageField::some(User::default()),
            ..Default::default()
        });
        ListResponse { containers: listed.collect(), ..Default::default() }
    }
}

/// One shim.
pub(crate) struct Fake {
    world: Arc<World>,
    thread: Option<JoinHandle<()>>,
    handle: Handle,
}

impl Fake {
    fn serve(socket: &Path, rule: &Arc<Mutex<Rule>>) -> Self {
        let listener = Socket::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (end, ended) = oneshot::channel();
        let world = Arc::new(World {
            rule: Arc::clone(rule),
            containers: Mutex::default(),
            over: watch::channel(false).0,
            calls: Mutex::default(),
            end: Mutex::new(Some(end)),
        });
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (handle, served) = (runtime.handle().clone(), Arc::clone(&world));
        let thread = std::thread::spawn(move || runtime.block_on(run(listener, served, ended)));
        Self { world, thread: Some(thread), handle }
    }

    /// What it was asked since the last time, but for its greeting.
    pub(crate) fn calls(&self) -> Vec<String> {
        let mut calls = std::mem::take(&mut *self.world.calls.lock().unwrap());
        calls.retain(|call| call != "Connect");
        calls
    }

    /// How often it was asked for this.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.world.calls.lock().unwrap().iter().filter(|call| *call == method).count()
    }

    /// A container's process ends by itself.
    pub(crate) fn exit(&self, id: &str, code: u32) {
        self.world.exit(id, code);
    }

    /// Whether it has this container.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.world.containers.lock().unwrap().contains_key(id)
    }

    /// It dies with its machine, as by SIGKILL.
    pub(crate) fn kill(&self) {
        drop(self.world.end.lock().unwrap().take());
    }

    /// It stands still, as after SIGSTOP, until what this returns is dropped: connections are
    /// accepted by the kernel, and nobody reads them.
    pub(crate) fn freeze(&self) -> std::sync::mpsc::Sender<()> {
        let (thaw, thawed) = std::sync::mpsc::channel::<()>();
        let (stands, still) = std::sync::mpsc::channel();
        self.handle.spawn(async move {
            stands.send(()).unwrap();
            let _dropped = thawed.recv();
        });
        still.recv().unwrap();
        thaw
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn run(listener: Socket, world: Arc<World>, ended: oneshot::Receiver<()>) {
    let listener = UnixListener::from_std(listener).unwrap();
    let callers = futures::stream::unfold(listener, |listener| async {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    let service = |methods: &[&str]| {
        let method = |name: &&str| {
            let call: Box<dyn MethodHandler + Send + Sync> = Box::new(Call(Arc::clone(&world)));
            ((*name).to_owned(), call)
        };
        Service { methods: methods.iter().map(method).collect(), streams: HashMap::new() }
    };
    let services = CALLS.iter().map(|(name, methods)| ((*name).to_owned(), service(methods)));
    let server = Server::new().register_service(services.collect());
    let mut server = server.add_listener(Listener::new(callers));
    server.start().await.unwrap();
    let _told = ended.await;
}

/// The shims of a node. Each pod takes one that is free.
pub(crate) struct Shims {
    directory: PathBuf,
    rule: Arc<Mutex<Rule>>,
    fakes: Vec<Fake>,
}

impl Shims {
    /// So many, in this directory. The last one takes all pods that come after.
    pub(crate) fn new(directory: &Path, count: usize) -> Self {
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Arc::new(|_| None)));
        for name in ["free", "taken"] {
            std::fs::create_dir(directory.join(name)).unwrap();
        }
        let fakes = (0..count).map(|number| {
            let socket = directory.join(format!("shim{number}"));
            let note = match number + 1 == count {
                true => "last".to_owned(),
                false => format!("free/{number:03}"),
            };
            std::fs::write(directory.join(note), format!("{}\n", socket.display())).unwrap();
            Fake::serve(&socket, &rule)
        });
        let fakes = fakes.collect();
        Self { directory: directory.to_owned(), rule, fakes }
    }

    /// The shim of a pod.
    pub(crate) fn of(&self, pod: &str) -> &Fake {
        let taken = std::fs::read_to_string(self.directory.join("taken").join(pod)).unwrap();
        let number = taken.trim().rsplit("shim").next().unwrap();
        &self.fakes[number.parse::<usize>().unwrap()]
    }

    /// Whether a pod has the first of them.
    pub(crate) fn is_first(&self, pod: &str) -> bool {
        std::ptr::eq(self.of(pod), &raw const self.fakes[0])
    }

    /// Says what all of them answer from now on; none: what our shim does.
    pub(crate) fn rule(&self, rule: impl Fn(&Request) -> Option<Say> + Send + Sync + 'static) {
        *self.rule.lock().unwrap() = Arc::new(rule);
    }

    /// One method's answer.
    pub(crate) fn say(&self, method: &'static str, say: Say) {
        self.rule(move |request| (request.method == method).then(|| say.clone()));
    }

    /// They answer as ours again.
    pub(crate) fn usual(&self) {
        self.rule(|_| None);
    }
}
