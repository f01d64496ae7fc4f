//! The connections to one server, and where its redirects lead. Nothing here knows who asks.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, Url};
use rustls::ClientConfig;
use tokio::sync::OnceCell;

use super::answer;
use super::fault::{self, Fault};
use super::patience::{Patience, Watch};
use super::resolver::Configured;
use super::tls::{self, Authorities};
use crate::hosts::{Endpoint, Tls, Transport};
use crate::secret::Secret;

/// Most redirects of one request, as in Go's client.
const MAX_REDIRECTS: usize = 10;

/// Bytes that a connection takes in before they are read: of one answer, and of all together.
/// One that is not read must not hold up the others.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// What this client calls itself.
const USER_AGENT: &str = concat!("cuddy/", env!("CARGO_PKG_VERSION"));

/// The connections to a server.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) endpoint: Endpoint,
    /// Which of the endpoint's transports is spoken.
    transport: AtomicUsize,
    names: Configured,
    tls: Result<Settings, Fault>,
    clients: OnceCell<Clients>,
}

/// TLS for the server, and for those to which it leads.
#[derive(Debug, Clone)]
struct Settings {
    own: ClientConfig,
    others: ClientConfig,
}

#[derive(Debug)]
struct Clients {
    /// To the server, and to the one that gives out its tokens.
    own: Client,
    /// To others, to which it leads: they do not see its client's certificates.
    others: Client,
}

/// An answer, and whether it is of another server.
pub(super) struct Reply {
    pub(super) response: Response,
    pub(super) elsewhere: bool,
}

impl Wire {
    /// Reads the files that TLS needs. What is wrong with them is told when the server is asked.
    pub(super) fn new(endpoint: Endpoint, names: &Configured, authorities: &Authorities) -> Self {
        let (tls, names) = (Settings::read(&endpoint, authorities), names.clone());
        Self { endpoint, transport: AtomicUsize::new(0), names, tls, clients: OnceCell::new() }
    }

    /// How the server is spoken to.
    pub(super) fn transport(&self) -> Transport {
        let index = self.transport.load(Ordering::Relaxed);
        self.endpoint.transports.get(index).copied().unwrap_or(Transport::Https)
    }

    /// Sends a request by the transport that works. `address` has a transport's address.
    pub(super) async fn get(
        &self,
        patience: &Patience,
        address: impl Fn(Transport) -> String,
        headers: &HeaderMap,
        authorization: Option<&Secret>,
    ) -> Result<Reply, Fault> {
        loop {
            let index = self.transport.load(Ordering::Relaxed);
            let url = address(self.transport()).parse();
            let url = url.map_err(|_| Fault::Setup("its address is no URL".to_owned()))?;
            match self.follow(patience, url, headers, authorization).await {
                Ok(reply) => return Ok(reply),
                Err(Unanswered::NotTls(_)) if index + 1 < self.endpoint.transports.len() => {
                    self.transport.store(index + 1, Ordering::Relaxed);
                }
                Err(Unanswered::NotTls(fault) | Unanswered::Fault(fault)) => return Err(fault),
            }
        }
    }

    /// Sends a request where redirects lead. Other servers get neither the proof nor the
    /// headers that `hosts.toml` has for this one, even if they lead back.
    async fn follow(
        &self,
        patience: &Patience,
        mut url: Url,
        headers: &HeaderMap,
        authorization: Option<&Secret>,
    ) -> Result<Reply, Unanswered> {
        let clients = self.clients(patience).await?;
        let mut own = self.endpoint.headers.clone();
        own.extend(headers.clone());
        if let Some(secret) = authorization {
            own.insert(AUTHORIZATION, header(secret)?);
        }
        let mut elsewhere = false;
        for _ in 0..=MAX_REDIRECTS {
            let (client, headers) =
                if elsewhere { (&clients.others, headers) } else { (&clients.own, &own) };
            let request = client.get(url.clone()).headers(headers.clone());
            let response = send(patience, request).await?;
            let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirects {
                return Ok(Reply { response, elsewhere });
            }
            let next = answer::location(&url, response.headers().get(LOCATION))
                .map_err(|reason| Fault::Redirect(reason.to_owned()))?;
            elsewhere |= next.origin() != url.origin();
            url = next;
        }
        Err(Fault::Redirect(format!("there are more than {MAX_REDIRECTS}")).into())
    }

    /// The connections to the server itself, for tokens.
    pub(super) async fn client(&self, patience: &Patience) -> Result<&Client, Fault> {
        Ok(&self.clients(patience).await?.own)
    }

    async fn clients(&self, patience: &Patience) -> Result<&Clients, Fault> {
        let make = || async {
            let Settings { own, others } = self.tls.clone()?;
            let client = |tls| client(&self.endpoint, tls, &self.names, patience);
            Ok(Clients { own: client(own)?, others: client(others)? })
        };
        self.clients.get_or_try_init(make).await
    }
}

/// A request without an answer.
#[derive(Debug)]
enum Unanswered {
    /// The server does not speak TLS.
    NotTls(Fault),
    Fault(Fault),
}

impl From<Fault> for Unanswered {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Unanswered> for Fault {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NotTls(fault) | Unanswered::Fault(fault) => fault,
        }
    }
}

/// Sends a request and waits for the header of its answer.
async fn send(patience: &Patience, request: RequestBuilder) -> Result<Response, Unanswered> {
    let silent = |_| Fault::Silent { what: "answer", seconds: patience.answer.as_secs() };
    let sent = tokio::time::timeout(patience.answer, request.send()).await.map_err(silent)?;
    sent.map_err(|error| {
        let no_port = error.url().is_some_and(|url| url.port().is_none());
        let plain = error.is_connect() && fault::is_plain(&error, no_port);
        let fault = fault::of_request(&error);
        if plain { Unanswered::NotTls(fault) } else { Unanswered::Fault(fault) }
    })
}

/// Sends a request for a token.
pub(super) async fn exchange(
    patience: &Patience,
    request: RequestBuilder,
) -> Result<Response, Fault> {
    Ok(send(patience, request).await?)
}

/// A header that is not shown, and that no table of headers keeps.
pub(super) fn header(secret: &Secret) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(secret.expose())
        .map_err(|_| Fault::Denied("its credentials have characters that none has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Settings {
    fn read(endpoint: &Endpoint, authorities: &Authorities) -> Result<Self, Fault> {
        // A server that speaks no TLS may be all that a node without authorities knows.
        let needs = !endpoint.transports.contains(&Transport::Http);
        let read = |tls: &Tls| {
            let read = tls::config(tls, authorities, needs);
            read.map_err(|error| Fault::Setup(fault::words(&error.to_string())))
        };
        let others = Tls { client: Vec::new(), ..endpoint.tls.clone() };
        Ok(Self { own: read(&endpoint.tls)?, others: read(&others)? })
    }
}

fn client(
    endpoint: &Endpoint,
    tls: ClientConfig,
    names: &Configured,
    patience: &Patience,
) -> Result<Client, Fault> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(names.clone())
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(endpoint.dial_timeout.unwrap_or(patience.connect))
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW);
    if endpoint.is_local() {
        // As with containerd, no proxy stands between a node and itself.
        builder = builder.no_proxy();
    }
    builder.build().map_err(|_| Fault::Setup("no client can be made for it".to_owned()))
}

/// A body as far as it was read.
pub(super) struct Read {
    pub(super) bytes: Bytes,
    /// Whether there is more.
    pub(super) cut: bool,
}

/// Reads a body up to a limit.
pub(super) async fn read(
    patience: &Patience,
    mut response: Response,
    limit: u64,
) -> Result<Read, Fault> {
    let mut watch = Watch::new();
    let mut bytes = Vec::new();
    while let Some(chunk) = watch.chunk(patience, &mut response).await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > limit {
            return Ok(Read { bytes: bytes.into(), cut: true });
        }
    }
    Ok(Read { bytes: bytes.into(), cut: false })
}
