//! Exec, attach and port-forward. The server gives an address, to which a WebSocket carries
//! numbered channels. The sub-protocol is `v4.channel.k8s.io`: the first byte of a message is the
//! channel. It has no half-close, so input ends with the connection only.

use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};

use tungstenite::client::ClientRequestBuilder;
use tungstenite::{Error, Message, WebSocket};

use super::{CALL, Container, Cri, Pod, answer, api, limited};
use crate::PATIENCE;

const PROTOCOL: &str = "v4.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// Channels over a WebSocket.
#[derive(Debug)]
struct Channels {
    socket: WebSocket<TcpStream>,
}

impl Channels {
    /// Connects to an address that the server gave, `http://HOST:PORT/…`.
    fn connect(url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap();
        let address = rest.split('/').next().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = ClientRequestBuilder::new(format!("ws://{rest}").parse().unwrap());
        let request = request.with_sub_protocol(PROTOCOL);
        let (socket, _) = tungstenite::client(request, stream).unwrap();
        Self { socket }
    }

    fn send(&mut self, channel: u8, bytes: &[u8]) {
        let message = [&[channel], bytes].concat();
        self.socket.send(Message::Binary(message.into())).unwrap();
    }

    /// The next message with something in it; none at the connection's end.
    fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let message = match self.socket.read() {
                Ok(message) => message,
                Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => {
                    return None;
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing to read: {error}"),
            };
            let bytes = match message {
                Message::Binary(bytes) => bytes.to_vec(),
                Message::Text(text) => text.as_bytes().to_vec(),
                Message::Close(_) => return None,
                _ => continue,
            };
            match bytes.split_first() {
                Some((channel, content)) if !content.is_empty() => {
                    return Some((*channel, content.to_vec()));
                }
                _ => {}
            }
        }
    }
}

/// A process's streams.
#[derive(Debug)]
pub struct Session {
    channels: Channels,
    /// Standard output until now.
    pub stdout: Vec<u8>,
    /// Standard error until now.
    pub stderr: Vec<u8>,
    /// What the server said at the end (a `metav1.Status`).
    pub status: Option<serde_json::Value>,
}

impl Session {
    fn new(url: &str) -> Self {
        let channels = Channels::connect(url);
        Self { channels, stdout: Vec::new(), stderr: Vec::new(), status: None }
    }

    /// Writes to standard input.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn write(&mut self, bytes: &[u8]) {
        // The server takes messages of up to 32 KiB.
        for chunk in bytes.chunks(16 << 10) {
            self.channels.send(STDIN, chunk);
        }
    }

    /// Resizes the terminal.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let size = serde_json::json!({ "Width": columns, "Height": rows }).to_string();
        self.channels.send(RESIZE, size.as_bytes());
    }

    /// Takes one message; false at the end.
    fn step(&mut self) -> bool {
        match self.channels.receive() {
            None => return false,
            Some((STDOUT, bytes)) => self.stdout.extend(bytes),
            Some((STDERR, bytes)) => self.stderr.extend(bytes),
            Some((ERROR, bytes)) => self.status = Some(serde_json::from_slice(&bytes).unwrap()),
            Some((channel, _)) => panic!("a message on channel {channel}"),
        }
        true
    }

    /// Standard output as text.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Reads until standard output has this text.
    ///
    /// # Panics
    /// When it ends before, or nothing comes.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        while !self.output().contains(text) {
            assert!(self.step(), "the end before {text:?}: {self:?}");
        }
    }

    /// Reads to the end and returns the exit code.
    ///
    /// # Panics
    /// When nothing comes, or the server tells of another failure.
    #[track_caller]
    pub fn finish(&mut self) -> i32 {
        while self.step() {}
        let Some(status) = &self.status else { panic!("no status: {self:?}") };
        if status["status"] == "Success" {
            return 0;
        }
        assert_eq!(status["reason"], "NonZeroExitCode", "{status}");
        status["details"]["causes"][0]["message"].as_str().unwrap().parse().unwrap()
    }

    /// Ends the connection, as a user that goes away.
    pub fn hang_up(self) {
        // Gone already, perhaps.
        let _gone = self.channels.socket.get_ref().shutdown(Shutdown::Both);
    }
}

/// A connection to a port of a pod.
#[derive(Debug)]
pub struct Forward {
    channels: Channels,
    /// What came until now.
    pub received: Vec<u8>,
}

impl Forward {
    /// Sends bytes.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(16 << 10) {
            self.channels.send(0, chunk);
        }
    }

    /// Takes one message.
    ///
    /// # Errors
    /// What the server wrote to the error channel.
    fn step(&mut self) -> Result<bool, String> {
        match self.channels.receive() {
            None => Ok(false),
            Some((0, bytes)) => {
                self.received.extend(bytes);
                Ok(true)
            }
            Some((_, bytes)) => Err(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// Reads until this text came.
    ///
    /// # Panics
    /// When it ends before, fails, or nothing comes.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.received).contains(text) {
            assert!(self.step().unwrap(), "the end before {text:?}: {self:?}");
        }
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// What the server wrote to the error channel.
    pub fn finish(mut self) -> Result<Vec<u8>, String> {
        while self.step()? {}
        Ok(self.received)
    }
}

impl Cri {
    /// Runs a command with streams; standard error is apart unless there is a terminal.
    ///
    /// # Panics
    /// When the call fails.
    #[track_caller]
    pub fn exec(&self, container: &Container, command: &[&str], tty: bool, stdin: bool) -> Session {
        let request = api::ExecRequest {
            container_id: container.id.clone(),
            cmd: command.iter().map(ToString::to_string).collect(),
            tty,
            stdin,
            stdout: true,
            stderr: !tty,
        };
        let mut service = self.runtime_service();
        Session::new(&answer("Exec", self.wait(service.exec(limited(request, CALL)))).url)
    }

    /// Attaches to the container's own process; `tty` as the container was created.
    ///
    /// # Panics
    /// When the call fails.
    #[track_caller]
    pub fn attach(&self, container: &Container, tty: bool, stdin: bool) -> Session {
        let container_id = container.id.clone();
        let request = api::AttachRequest { container_id, stdin, tty, stdout: true, stderr: !tty };
        let mut service = self.runtime_service();
        Session::new(&answer("Attach", self.wait(service.attach(limited(request, CALL)))).url)
    }

    /// Connects to a TCP port on the pod's loopback.
    ///
    /// # Panics
    /// When the call fails; that nobody listens shows later, in [`Forward::finish`].
    #[track_caller]
    pub fn port_forward(&self, pod: &Pod, port: u16) -> Forward {
        let request =
            api::PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![port.into()] };
        let mut service = self.runtime_service();
        let response = self.wait(service.port_forward(limited(request, CALL)));
        let mut channels = Channels::connect(&answer("PortForward", response).url);
        // The first message on either channel repeats the port.
        for channel in [0, 1] {
            let (from, bytes) = channels.receive().unwrap();
            assert_eq!((from, bytes), (channel, port.to_le_bytes().to_vec()));
        }
        Forward { channels, received: Vec::new() }
    }
}
