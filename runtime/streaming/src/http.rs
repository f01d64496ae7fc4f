//! The request of a client: the path says the token, the headers a protocol. The answer is 101,
//! and the session begins.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::negotiate::{self, Agreed, Carried, Purpose, Refused};
use crate::session::{self, PortForward, Session};
use crate::shared::Shared;
use crate::{port_forward, remote_command};

type Answer = Response<Full<Bytes>>;

fn plain(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut text = text.into();
    text.push('\n');
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    // Not by an option of the server: that would add it to 101 too, where Go's clients look at
    // the first value only.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Answers one request.
pub(crate) fn answer(request: Request<Incoming>, server: &Arc<Shared>) -> Answer {
    begin(request, server).unwrap_or_else(|refused| {
        log::info!("streaming: a client is refused: {}", refused.text.escape_debug());
        let mut response = plain(refused.status, refused.text);
        for known in refused.known {
            let value = HeaderValue::from_static(known);
            response.headers_mut().append(HeaderName::from_static(negotiate::ACCEPTED), value);
        }
        response
    })
}

fn refused(status: StatusCode, text: &str) -> Refused {
    Refused { status, text: text.to_owned(), known: Vec::new() }
}

/// Takes the session that the path names, and starts it.
fn begin(mut request: Request<Incoming>, server: &Arc<Shared>) -> Result<Answer, Refused> {
    if ![Method::GET, Method::POST].contains(request.method()) {
        return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "405: only GET and POST"));
    }
    let session = take(request.uri().path(), server);
    let mut session =
        session.ok_or_else(|| refused(StatusCode::NOT_FOUND, "404 page not found"))?;
    let place = server.sessions.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        refused(StatusCode::TOO_MANY_REQUESTS, "too many streaming sessions at the same time")
    })?;
    let purpose = match &session.request {
        session::Request::RemoteCommand(_) => Purpose::RemoteCommand,
        session::Request::PortForward(_) => Purpose::PortForward,
    };
    let agreed = negotiate::agree(request.headers(), purpose)?;
    if let session::Request::PortForward(forward) = &mut session.request {
        add_ports(forward, request.uri().query().unwrap_or_default(), agreed.carried)?;
    }
    let response = switch(&request, &agreed)?;
    let upgrade = hyper::upgrade::on(&mut request);
    let server_of_session = server.clone();
    let kill = server.kill.clone();
    server.tasks.spawn(async move {
        let run = run(upgrade, agreed.carried, session, &server_of_session, place);
        kill.run_until_cancelled(run).await;
    });
    Ok(response)
}

fn take(path: &str, server: &Shared) -> Option<Session> {
    let (kind, token) = path.strip_prefix('/')?.split_once('/')?;
    let session = server.tokens().take(token)?;
    (session.path() == kind).then_some(session)
}

/// Ports for channels over a WebSocket, which have no other way to name them than the query.
fn add_ports(forward: &mut PortForward, query: &str, carried: Carried) -> Result<(), Refused> {
    if !matches!(carried, Carried::Channels(..)) || !forward.ports.is_empty() {
        return Ok(());
    }
    let wrong = |text: &str| refused(StatusCode::BAD_REQUEST, text);
    let pairs = form_urlencoded::parse(query.as_bytes());
    for (_, list) in pairs.filter(|(name, _)| matches!(name.as_ref(), "port" | "ports")) {
        for port in list.split(',') {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            forward.ports.push(port.ok_or_else(|| wrong("a port is not from 1 to 65535"))?);
        }
    }
    match forward.ports.len() {
        0 => Err(wrong("query parameter \"port\" is required")),
        1..=127 => Ok(()),
        _ => Err(wrong("more than 127 ports")),
    }
}

/// The answer by which the connection changes its protocol.
fn switch(request: &Request<Incoming>, agreed: &Agreed) -> Result<Answer, Refused> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let name = agreed.name.map(HeaderValue::from_static);
    if let Carried::Spdy(_) = agreed.carried {
        headers.insert(UPGRADE, HeaderValue::from_static(negotiate::SPDY));
        headers.extend(name.map(|name| (HeaderName::from_static(negotiate::VERSION), name)));
        return Ok(response);
    }
    let key = request.headers().get("sec-websocket-key");
    let version = request.headers().get("sec-websocket-version");
    let (Some(key), true, &Method::GET) =
        (key, version.is_some_and(|version| version == "13"), request.method())
    else {
        let text = "a WebSocket needs GET, version 13 and a key";
        return Err(refused(StatusCode::BAD_REQUEST, text));
    };
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| refused(StatusCode::BAD_REQUEST, "the WebSocket's key can't be answered"))?;
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", accept);
    headers.extend(name.map(|name| (HeaderName::from_static("sec-websocket-protocol"), name)));
    Ok(response)
}

/// Serves a session once the connection has changed its protocol.
async fn run(
    upgrade: OnUpgrade,
    carried: Carried,
    session: Session,
    server: &Shared,
    _place: OwnedSemaphorePermit,
) {
    let socket = match upgrade.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => {
            log::info!("streaming: a client has gone before its session began: {error}");
            return;
        }
    };
    let (limits, stop) = (&server.limits, &server.stop);
    match session.request {
        session::Request::RemoteCommand(command) => {
            remote_command::serve(socket, carried, command, limits, stop).await;
        }
        session::Request::PortForward(forward) => {
            port_forward::serve(socket, carried, forward, limits, stop).await;
        }
    }
}
