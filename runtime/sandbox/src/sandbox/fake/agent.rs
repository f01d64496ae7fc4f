//! A guest's agent that does what a test says. It speaks agent-api on the socket that leads to the
//! guest's vsock ports. It can answer late, wrongly, or not at all.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use ttrpc::r#async::transport::Listener;
use ttrpc::r#async::{MethodHandler, Server, Service, TtrpcContext};
use ttrpc::proto::{Request, Response};
use ttrpc::{Code, get_status};

/// All calls that the core makes, as service and method.
const METHODS: [(&str, &[&str]); 6] = [
    ("Health", &["Check"]),
    ("Sandbox", &["Configure", "Resize", "Shutdown"]),
    ("Container", &["Create", "Delete", "Pause", "Resume", "Update", "Stats", "WaitOom"]),
    ("Process", &["Exec", "Start", "Signal", "Wait", "ResizePty", "List", "Delete"]),
    ("Storage", &["Attach", "Detach", "Mount", "Unmount"]),
    ("Network", &["Apply"]),
];

/// Calls that an agent answers only when something happens.
const WAITING: [&str; 2] = ["Process/Wait", "Container/WaitOom"];

/// How a call is answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// With an encoded message.
    Message(Vec<u8>),
    /// With an error.
    Status(Code, String),
    /// Not before the other end says how; never if it is dropped.
    Later(oneshot::Receiver<Answer>),
}

impl Answer {
    /// A message.
    pub(crate) fn message(message: &impl protobuf::Message) -> Self {
        Self::Message(message.write_to_bytes().unwrap())
    }
}

/// A stream until a test takes it.
type Place = Arc<Mutex<Option<UnixStream>>>;

#[derive(Debug, Default)]
struct Script {
    /// What is to be answered next, by service and method.
    answers: Mutex<HashMap<String, VecDeque<Answer>>>,
    /// What was asked and not looked at yet.
    calls: watch::Sender<Vec<(String, Vec<u8>)>>,
    /// Guest's ends of process streams, by number.
    streams: watch::Sender<Vec<(u64, Place)>>,
    /// All connections, to be cut.
    connections: Mutex<Vec<OwnedFd>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An agent. It is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct FakeAgent {
    script: Arc<Script>,
    accepting: JoinHandle<()>,
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.disconnect();
    }
}

impl FakeAgent {
    /// Serves on `vsock`.
    pub(crate) async fn listen(vsock: &Path) -> Self {
        let listener = UnixListener::bind(vsock).unwrap();
        let script = Arc::new(Script::default());
        let (rpc, connections) = mpsc::unbounded_channel();
        let next = |mut connections: mpsc::UnboundedReceiver<UnixStream>| async {
            connections.recv().await.map(|stream| (std::io::Result::Ok(stream), connections))
        };
        let connections = futures::stream::unfold(connections, next);
        let mut server = Server::new()
            .add_listener(Listener::new(connections))
            .register_service(services(&script));
        server.start().await.unwrap();
        let served = Arc::clone(&script);
        let accepting = tokio::spawn(async move {
            // The server goes with this task.
            let _server = server;
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connected(stream, Arc::clone(&served), rpc.clone()));
            }
        });
        Self { script, accepting }
    }

    /// Answers the next call of `method`, "Service/Method", so.
    pub(crate) fn answer(&self, method: &str, answer: Answer) {
        lock(&self.script.answers).entry(method.to_owned()).or_default().push_back(answer);
    }

    /// Holds the next answer to `method` back.
    pub(crate) fn hold(&self, method: &str) -> oneshot::Sender<Answer> {
        let (sender, later) = oneshot::channel();
        self.answer(method, Answer::Later(later));
        sender
    }

    /// Waits for a call of `method`; returns what was asked. Each call is returned once.
    pub(crate) async fn called<M: protobuf::Message>(&self, method: &str) -> M {
        let mut calls = self.script.calls.subscribe();
        loop {
            let mut found = None;
            self.script.calls.send_if_modified(|calls| {
                let index = calls.iter().position(|(called, _)| called == method);
                found = index.map(|index| calls.remove(index).1);
                false
            });
            if let Some(payload) = found {
                return M::parse_from_bytes(&payload).unwrap();
            }
            calls.changed().await.unwrap();
        }
    }

    /// Whether `method` was called and nobody has looked at it yet.
    pub(crate) fn was_called(&self, method: &str) -> bool {
        self.script.calls.borrow().iter().any(|(called, _)| called == method)
    }

    /// Waits for the guest's end of the process stream `id`.
    pub(crate) async fn stream(&self, id: u64) -> UnixStream {
        let mut streams = self.script.streams.subscribe();
        let known = streams.wait_for(|streams| streams.iter().any(|(known, _)| *known == id));
        let known = known.await.unwrap();
        let place = known.iter().find(|(known, _)| *known == id).unwrap();
        lock(&place.1).take().unwrap()
    }

    /// Ends all connections and takes no others.
    pub(crate) fn disconnect(&self) {
        self.accepting.abort();
        for connection in lock(&self.script.connections).drain(..) {
            // It may have ended by itself.
            let _gone = rustix::net::shutdown(&connection, rustix::net::Shutdown::Both);
        }
    }
}

/// Serves one connection: a line that names its port, and an answer.
async fn connected(
    mut stream: UnixStream,
    script: Arc<Script>,
    rpc: mpsc::UnboundedSender<UnixStream>,
) {
    lock(&script.connections).push(stream.as_fd().try_clone_to_owned().unwrap());
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let Ok(byte) = stream.read_u8().await else { return };
        line.push(byte);
    }
    let line = String::from_utf8(line).unwrap();
    let port: u32 = line.trim().strip_prefix("CONNECT ").unwrap().parse().unwrap();
    stream.write_all(b"OK 1073741824\n").await.unwrap();
    match port {
        agent_api::RPC_PORT => drop(rpc.send(stream)),
        agent_api::STREAM_PORT => {
            let id = stream.read_u64_le().await.unwrap();
            let place = Arc::new(Mutex::new(Some(stream)));
            script.streams.send_modify(|streams| streams.push((id, place)));
        }
        port => panic!("nobody listens on port {port}"),
    }
}

/// One method of one service.
struct Method {
    name: String,
    script: Arc<Script>,
}

fn services(script: &Arc<Script>) -> HashMap<String, Service> {
    let method = |service: &str, method: &str| -> Box<dyn MethodHandler + Send + Sync> {
        Box::new(Method { name: format!("{service}/{method}"), script: Arc::clone(script) })
    };
    let service = |(service, methods): &(&str, &[&str])| {
        let methods = methods.iter().map(|name| ((*name).to_owned(), method(service, name)));
        let methods = methods.collect();
        (format!("cuddy.agent.v1.{service}"), Service { methods, streams: HashMap::new() })
    };
    METHODS.iter().map(service).collect()
}

#[async_trait]
impl MethodHandler for Method {
    async fn handler(&self, _: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        self.script.calls.send_modify(|calls| calls.push((self.name.clone(), request.payload)));
        let next = lock(&self.script.answers).get_mut(&self.name).and_then(VecDeque::pop_front);
        let mut answer = match next {
            Some(answer) => answer,
            None if WAITING.contains(&self.name.as_str()) => std::future::pending().await,
            None => Answer::Message(Vec::new()),
        };
        loop {
            answer = match answer {
                Answer::Message(payload) => {
                    let mut response = Response::new();
                    response.set_status(get_status(Code::OK, ""));
                    response.payload = payload;
                    return Ok(response);
                }
                Answer::Status(code, text) => {
                    let mut response = Response::new();
                    response.set_status(get_status(code, text));
                    return Ok(response);
                }
                Answer::Later(later) => match later.await {
                    Ok(answer) => answer,
                    Err(_) => std::future::pending().await,
                },
            };
        }
    }
}
