//! The server: it listens, keeps what waits for its client, and ends sessions in order.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use crate::error::Error;
use crate::http;
use crate::limits::Limits;
use crate::session::{Duplex, Session};
use crate::shared::Shared;

/// How long a listener rests that can't accept, as for want of descriptors.
const REST: Duration = Duration::from_millis(100);
/// Bytes of a request's head.
const HEAD: usize = 16 << 10;

/// Where a server listens; at one of both at least.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For the kubelet, `crictl` and the like, on a loopback address.
    pub tcp: Option<TcpListener>,
    /// For who may open the socket's file.
    pub unix: Option<UnixListener>,
}

/// A server of sessions. All of them end when it is dropped; [`Server::shutdown`] is kinder.
pub struct Server {
    shared: Arc<Shared>,
    base: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Server").field(&self.base).finish()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.kill.cancel();
    }
}

impl Server {
    /// Starts to serve, on the runtime of the caller.
    ///
    /// # Errors
    /// [`Error::Listener`].
    pub fn start(listeners: Listeners, limits: Limits) -> Result<Self, Error> {
        let address = listeners.tcp.as_ref().map(TcpListener::local_addr).transpose();
        let address = address.map_err(Error::Listener)?;
        // Over a Unix socket the host means nothing, but a request has one.
        let base = address.map_or_else(|| "http://localhost".to_owned(), base);
        let shared = Arc::new(Shared::new(limits));
        let tcp = listeners.tcp.map(Listener::Tcp);
        for listener in tcp.into_iter().chain(listeners.unix.map(Listener::Unix)) {
            shared.tasks.spawn(serve(listener, shared.clone()));
        }
        Ok(Self { shared, base })
    }

    /// An address at which one client gets this session: `http://HOST:PORT/KIND/TOKEN`. Over the
    /// Unix socket the same path is good. It is forgotten after [`Limits::token`].
    ///
    /// # Errors
    /// [`Error::TooManyWaiting`], [`Error::ShuttingDown`] and [`Error::Random`].
    pub fn url(&self, session: Session) -> Result<String, Error> {
        let kind = session.path();
        let mut tokens = self.shared.tokens();
        if self.shared.stop.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        let token = tokens.insert(session)?;
        Ok(format!("{}/{kind}/{token}", self.base))
    }

    /// Sessions that run now.
    pub fn sessions(&self) -> usize {
        self.shared.limits.sessions - self.shared.sessions.available_permits()
    }

    /// Listens no more, and ends all sessions: their input ends, their code may still finish
    /// within [`Limits::detach`], clients are told, and have [`Limits::linger`] to close. What
    /// takes longer is cut off.
    pub async fn shutdown(&self) {
        let Shared { stop, kill, tasks, limits, .. } = &*self.shared;
        stop.cancel();
        self.shared.tokens().clear();
        tasks.close();
        if timeout(limits.detach + 2 * limits.linger, tasks.wait()).await.is_err() {
            log::warn!("streaming: {} tasks are cut off", tasks.len());
            kill.cancel();
            tasks.wait().await;
        }
    }
}

fn base(address: SocketAddr) -> String {
    format!("http://{address}")
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Duplex>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // What a user types must not wait for more.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => {
                listener.accept().await.map(|(stream, _)| Box::new(stream) as Box<dyn Duplex>)
            }
        }
    }
}

/// Accepts clients until the server stops.
async fn serve(listener: Listener, shared: Arc<Shared>) {
    let clients = async {
        loop {
            let Ok(place) = shared.handshakes.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok(stream) => drop(shared.tasks.spawn(handshake(stream, shared.clone(), place))),
                Err(error) => {
                    log::warn!("streaming: no client can be accepted: {error}");
                    sleep(REST).await;
                }
            }
        }
    };
    shared.stop.run_until_cancelled(clients).await;
}

/// Reads a client's request and answers it. A session that it begins is a task of its own.
async fn handshake(stream: Box<dyn Duplex>, shared: Arc<Shared>, _place: OwnedSemaphorePermit) {
    let server = shared.clone();
    let answer = move |request| ready(Ok::<_, Infallible>(http::answer(request, &server)));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD);
    let connection =
        builder.serve_connection(TokioIo::new(stream), service_fn(answer)).with_upgrades();
    let done = tokio::select! {
        done = timeout(shared.limits.handshake, connection) => Some(done),
        () = shared.stop.cancelled() => None,
    };
    match done {
        Some(Err(_)) => log::info!("streaming: a client is hung up on: it sends no request"),
        Some(Ok(Err(error))) => log::debug!("streaming: a client's request: {error}"),
        Some(Ok(Ok(()))) | None => {}
    }
}
