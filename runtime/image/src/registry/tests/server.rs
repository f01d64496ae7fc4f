//! A server that answers as a test says, and remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BufMut as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What a server was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// By names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A point that an answer can't pass before the test lets it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<(Notify, Notify)>);

impl Gate {
    /// Waits until an answer is there.
    pub(crate) async fn reached(&self) {
        self.0.0.notified().await;
    }

    /// Lets one answer pass.
    pub(crate) fn open(&self) {
        self.0.1.notify_one();
    }

    async fn pass(&self) {
        self.0.0.notify_one();
        self.0.1.notified().await;
    }
}

/// What a server does after the header of its answer.
#[derive(Debug, Clone)]
enum Step {
    Send(Vec<u8>),
    /// The same bytes, so many times.
    Repeat(Vec<u8>, usize),
    /// The same bytes, until nobody reads them.
    Endless(Vec<u8>),
    /// Byte after byte, with a pause after each.
    Trickle(Vec<u8>, Duration),
    /// Nothing until the other side ends the connection.
    Hang,
    Wait(Gate),
    Cut,
}

/// A server's answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    length: Option<usize>,
    /// Where it waits before its header.
    gate: Option<Gate>,
    steps: Vec<Step>,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), length: Some(0), gate: None, steps: Vec::new() }
    }

    pub(crate) fn ok(content: &[u8]) -> Self {
        Self::status(200).send(content)
    }

    pub(crate) fn json(self, text: &str) -> Self {
        self.send(text.as_bytes()).with("content-type", "application/json")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends these bytes, and says so in `Content-Length`.
    pub(crate) fn send(mut self, content: &[u8]) -> Self {
        self.length = self.length.map(|length| length + content.len());
        self.steps.push(Step::Send(content.to_vec()));
        self
    }

    /// Says another length than the body has.
    pub(crate) fn length(self, length: usize) -> Self {
        Self { length: Some(length), ..self }
    }

    /// Says no length: the connection's end is the body's.
    pub(crate) fn without_length(self) -> Self {
        Self { length: None, ..self }
    }

    pub(crate) fn cut(mut self) -> Self {
        self.steps.push(Step::Cut);
        self
    }

    pub(crate) fn hang(mut self) -> Self {
        self.steps.push(Step::Hang);
        self
    }

    pub(crate) fn wait(mut self, gate: &Gate) -> Self {
        self.steps.push(Step::Wait(gate.clone()));
        self
    }

    pub(crate) fn wait_before(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    pub(crate) fn endless(mut self, content: &[u8]) -> Self {
        self.steps.push(Step::Endless(content.to_vec()));
        self.without_length()
    }

    /// Sends the same bytes so many times.
    pub(crate) fn repeat(mut self, content: &[u8], times: usize) -> Self {
        self.length = self.length.map(|length| length + content.len() * times);
        self.steps.push(Step::Repeat(content.to_vec(), times));
        self
    }

    pub(crate) fn trickle(mut self, content: &[u8], pause: Duration) -> Self {
        self.length = self.length.map(|length| length + content.len());
        self.steps.push(Step::Trickle(content.to_vec(), pause));
        self
    }

    /// Keeps only the first `count` bytes of the body, and cuts the connection then.
    pub(crate) fn cut_after(mut self, count: usize) -> Self {
        for step in &mut self.steps {
            if let Step::Send(content) = step {
                content.truncate(count);
            }
        }
        self.cut()
    }

    /// Code, headers and body, for a server of another kind.
    pub(crate) fn parts(&self) -> (u16, &[(String, String)], Vec<u8>) {
        let sent = self.steps.iter().filter_map(|step| match step {
            Step::Send(content) => Some(content.as_slice()),
            _ => None,
        });
        (self.status, &self.headers, sent.collect::<Vec<_>>().concat())
    }

    /// Is silent where it would cut the connection.
    pub(crate) fn cut_to_silence(mut self) -> Self {
        self.steps.retain(|step| !matches!(step, Step::Cut));
        self.hang()
    }

    /// The part that the request asks for.
    pub(crate) fn part_for(mut self, request: &Request) -> Self {
        let range = request.header("range").strip_prefix("bytes=");
        let first = range.and_then(|range| range.strip_suffix('-')?.parse::<usize>().ok());
        let (Some(first), [Step::Send(content)]) = (first, self.steps.as_mut_slice()) else {
            return self;
        };
        let whole = content.len();
        let rest = content.split_off(first);
        let range = format!("bytes {first}-{}/{whole}", whole - 1);
        Self { headers: self.headers, ..Self::status(206) }
            .send(&rest)
            .with("content-range", &range)
    }
}

struct Shared {
    asked: Mutex<Vec<Request>>,
    ended: Notify,
    answer: Box<dyn Fn(&Request) -> Answer + Send + Sync>,
}

/// A server on loopback. It ends with the test's runtime.
pub(crate) struct Server {
    port: u16,
    scheme: &'static str,
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(None, Box::new(answer)).await
    }

    pub(crate) async fn start_tls(
        config: rustls::ServerConfig,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(TlsAcceptor::from(Arc::new(config))), Box::new(answer)).await
    }

    async fn listen(
        tls: Option<TlsAcceptor>,
        answer: Box<dyn Fn(&Request) -> Answer + Send + Sync>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let asked = Mutex::new(Vec::new());
        let shared = Arc::new(Shared { asked, ended: Notify::new(), answer });
        let accepted = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepted.clone().connection(stream, tls.clone()));
            }
        });
        Self { port, scheme, shared }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address())
    }

    /// All that it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The paths that it was asked for, with a word for each method but `GET`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let method = |method: &str| if method == "GET" { "" } else { "POST " }.to_owned();
        self.asked().iter().map(|request| method(&request.method) + &request.path).collect()
    }

    /// Waits until the other side has ended a connection on which the server hangs.
    pub(crate) async fn ended(&self) {
        self.shared.ended.notified().await;
    }
}

impl Shared {
    /// Serves a connection. What ends one early is the test's own doing.
    async fn connection(self: Arc<Self>, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let _ = match tls {
            None => self.serve(stream).await,
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => self.serve(stream).await,
                Err(error) => Err(error),
            },
        };
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        loop {
            let Some(request) = read(&mut stream).await? else { return Ok(()) };
            let answer = (self.answer)(&request);
            self.asked.lock().unwrap().push(request);
            if let Some(gate) = &answer.gate {
                gate.pass().await;
            }
            let mut head = format!("HTTP/1.1 {} Said\r\n", answer.status);
            for (name, value) in &answer.headers {
                head += &format!("{name}: {value}\r\n");
            }
            match answer.length {
                Some(length) => head += &format!("content-length: {length}\r\n\r\n"),
                None => head += "connection: close\r\n\r\n",
            }
            stream.write_all(head.as_bytes()).await?;
            let mut ended = false;
            for step in &answer.steps {
                ended = ended || self.step(&mut stream, step).await?;
            }
            stream.flush().await?;
            if ended || answer.length.is_none() {
                return stream.shutdown().await;
            }
        }
    }

    /// Does one step. True: the connection is to end.
    async fn step(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        step: &Step,
    ) -> std::io::Result<bool> {
        match step {
            Step::Send(content) => stream.write_all(content).await?,
            Step::Repeat(content, times) => {
                for _ in 0..*times {
                    stream.write_all(content).await?;
                }
            }
            Step::Endless(content) => loop {
                stream.write_all(content).await?;
            },
            Step::Trickle(content, pause) => {
                for byte in content {
                    stream.write_all(&[*byte]).await?;
                    stream.flush().await?;
                    tokio::time::sleep(*pause).await;
                }
            }
            Step::Hang => {
                stream.flush().await?;
                let end = stream.read(&mut [0; 64]).await;
                self.ended.notify_one();
                return Ok(end.is_ok());
            }
            Step::Wait(gate) => {
                stream.flush().await?;
                gate.pass().await;
            }
            Step::Cut => return Ok(true),
        }
        Ok(false)
    }
}

/// Reads a request. One that is none is answered as Go's servers answer it.
async fn read(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> std::io::Result<Option<Request>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut (&mut head).limit(1)).await? == 0 {
            return Ok(None);
        }
        if !head[0].is_ascii_uppercase() {
            stream
                .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request")
                .await?;
            stream.shutdown().await?;
            return Ok(None);
        }
    }
    let head = String::from_utf8(head).unwrap();
    let (first, rest) = head.split_once("\r\n").unwrap();
    let words: Vec<_> = first.split(' ').collect();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    };
    let headers: BTreeMap<_, _> = rest.lines().filter_map(header).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let (method, path) = (words[0].to_owned(), words[1].to_owned());
    Ok(Some(Request { method, path, headers, body: String::from_utf8(body).unwrap() }))
}
