//! What the streaming server's sessions do: processes, outputs that are looked at, ports.

use std::path::Path;
use std::sync::Arc;

use shim_client::Shim;
use streaming::{Input, Session, Size, Streams, Wanted};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::exec::{self, Exec};
use crate::fault::Fault;
use crate::fifo;
use crate::ids;
use crate::pod::effects;
use crate::pod::handle::Pod;
use crate::pod::site::{self, ClientPlace, Site};

/// Bytes that are copied at a time.
const BUFFER: usize = 32 << 10;

/// A session that runs a command in a container.
///
/// # Errors
/// Streams that don't go together.
pub(crate) fn exec(
    site: &Arc<Site>,
    container: &str,
    cmd: Vec<String>,
    wanted: Wanted,
) -> Result<Session, Fault> {
    let (site, container) = (Arc::clone(site), container.to_owned());
    let session = Session::exec(wanted, move |streams| async move {
        let with = exec::Streams {
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
            terminal: wanted.terminal,
            // Known before the process is, so that it never sees another.
            size: (*streams.resize.borrow()).map(numbers),
        };
        let exec = Exec::create(&site, &container, &cmd, with).await.map_err(text)?;
        // A client that goes leaves a process that goes on, and is cleaned up after.
        let ran = tokio::spawn(run(exec, streams)).await;
        ran.map_err(|error| error.to_string())?.map_err(text)
    });
    session.map_err(|error| Fault::InvalidArgument(error.to_string()))
}

fn text(fault: Fault) -> String {
    fault.to_string()
}

async fn run(mut exec: Exec, streams: Streams) -> Result<u32, Fault> {
    let Streams { stdin, stdout, stderr, mut resize } = streams;
    // One that came meanwhile is told anew.
    resize.mark_changed();
    let outputs = [(exec.stdout.take(), stdout), (exec.stderr.take(), stderr)];
    let ended = async {
        exec.start().await?;
        let copies = outputs.map(|(from, to)| tokio::spawn(output(from, to)));
        let exit = tokio::select! {
            exit = exec.wait() => exit?,
            never = talk(&exec, stdin, resize) => match never {},
        };
        for copy in copies {
            // What it has written is all there.
            let _done = copy.await;
        }
        Ok(exit.status)
    };
    let ended = ended.await;
    exec.remove().await;
    ended
}

/// Carries input and sizes to a process, for ever.
async fn talk(
    exec: &Exec,
    stdin: Option<Input>,
    mut resize: watch::Receiver<Option<Size>>,
) -> std::convert::Infallible {
    let input = async {
        if let (Some(from), Some(path)) = (stdin, &exec.stdin) {
            input(from, path).await;
            exec.close_stdin().await;
        }
    };
    let sizes = async {
        while let Some(size) = next_size(&mut resize).await {
            let resized = exec.resize(size).await;
            resized.unwrap_or_else(|fault| log::debug!("{fault}"));
        }
    };
    tokio::join!(input, sizes);
    std::future::pending().await
}

/// The next size of a terminal, in columns and rows; none when the client has gone.
async fn next_size(resize: &mut watch::Receiver<Option<Size>>) -> Option<(u32, u32)> {
    loop {
        resize.changed().await.ok()?;
        if let Some(size) = *resize.borrow_and_update() {
            return Some(numbers(size));
        }
    }
}

fn numbers(size: Size) -> (u32, u32) {
    (size.columns.into(), size.rows.into())
}

/// Copies an output to a client. When the client has gone the rest is dropped, so that the process
/// goes on.
async fn output(from: Option<impl AsyncRead + Unpin>, to: Option<impl AsyncWrite + Unpin>) {
    let Some(mut from) = from else { return };
    let (mut to, mut buffer) = (to, vec![0; BUFFER]);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(client) = &mut to
            && client.write_all(&buffer[..read]).await.is_err()
        {
            to = None;
        }
    }
    if let Some(mut client) = to {
        // A client that has gone needs no end.
        let _gone = client.shutdown().await;
    }
}

/// Copies a client's input into a fifo, to its end.
async fn input(mut from: Input, path: &Path) {
    // Open for reading, too: nobody else may have opened it yet.
    let fifo = pipe::OpenOptions::new().read_write(true).open_sender(path);
    let copied = match fifo {
        Ok(mut fifo) => tokio::io::copy(&mut from, &mut fifo).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = copied {
        log::debug!("input to {}: {error}", path.display());
    }
}

/// A session that looks at the streams of a container's own process. The shim hands on its output
/// from before this returns. So whoever starts the container once it has the session's address
/// misses nothing, however late the client comes.
///
/// # Errors
/// Streams that don't go together, or what the shim answered.
pub(crate) async fn attach(
    pod: &Pod,
    container: &str,
    wanted: Wanted,
    stdin_once: bool,
) -> Result<Session, Fault> {
    let invalid = |error: streaming::Error| Fault::InvalidArgument(error.to_string());
    let wanted = wanted.check().map_err(invalid)?;
    let (pod, container) = (pod.clone(), container.to_owned());
    let (shim, place) = (pod.site.shim()?, pod.site.client());
    let attached = Attached { pod, shim, container, stdin_once, _place: place };
    let outputs = attached.outputs(wanted).await?;
    let session = Session::attach(wanted, move |streams| async move {
        attached.run(streams, outputs).await.map_err(text)
    });
    session.map_err(invalid)
}

/// The daemon's ends of a container's outputs. What nobody has read yet waits in them.
struct Outputs {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

impl Outputs {
    /// Makes fifos in a new directory and lets `attach` open their other ends, by their paths; the
    /// path of an output that is not wanted is empty. The directory is gone afterwards.
    async fn open<F>(
        directory: &Path,
        wanted: Wanted,
        attach: impl FnOnce(String, String) -> F,
    ) -> Result<Self, Fault>
    where
        F: Future<Output = Result<(), Fault>>,
    {
        let made = || {
            std::fs::create_dir(directory)?;
            let fifo = |name: &str, wanted: bool| match wanted {
                true => fifo::receive(&directory.join(name)).map(Some),
                false => Ok(None),
            };
            let (stdout, stderr) = (fifo("stdout", wanted.stdout)?, fifo("stderr", wanted.stderr)?);
            std::io::Result::Ok(Self { stdout, stderr })
        };
        let failed = |error: std::io::Error| {
            Fault::Internal(format!("making fifos in {}: {error}", directory.display()))
        };
        let path = |name: &str, there: bool| match there {
            true => directory.join(name).display().to_string(),
            false => String::new(),
        };
        let opened = match made() {
            Ok(outputs) if wanted.stdout || wanted.stderr => {
                let attached = attach(path("stdout", wanted.stdout), path("stderr", wanted.stderr));
                attached.await.map(|()| outputs)
            }
            made => made.map_err(failed),
        };
        // Both ends are open, or never will be.
        let removed = effects::remove_directory(directory).await;
        removed.unwrap_or_else(|fault| log::warn!("{fault}"));
        opened
    }
}

/// A client that is attached.
struct Attached {
    pod: Pod,
    shim: Shim,
    container: String,
    stdin_once: bool,
    /// A pod that ends by itself waits for it.
    _place: ClientPlace,
}

impl Attached {
    /// Has the shim hand on the outputs, from now on.
    async fn outputs(&self, wanted: Wanted) -> Result<Outputs, Fault> {
        let name = ids::new().map_err(|error| Fault::Internal(error.to_string()))?;
        let bundle = self.pod.site.node.places.bundle(&self.container);
        let site = &self.pod.site;
        let attach =
            async |out: String, err: String| site.attach(&self.container, &out, &err).await;
        Outputs::open(&bundle.join(format!("attach-{name}")), wanted, attach).await
    }

    async fn run(self, streams: Streams, outputs: Outputs) -> Result<u32, Fault> {
        let Streams { stdin, stdout, stderr, resize } = streams;
        let outputs = async {
            tokio::join!(output(outputs.stdout, stdout), output(outputs.stderr, stderr));
            // Without outputs, the end of the container is the end.
            effects::ended(&self.pod, &self.container).await
        };
        tokio::select! {
            ended = outputs => ended?,
            never = self.talk(stdin, resize) => match never {},
        }
        Ok(0)
    }

    async fn talk(
        &self,
        stdin: Option<Input>,
        mut resize: watch::Receiver<Option<Size>>,
    ) -> std::convert::Infallible {
        let Ok(target) = site::init(&self.container) else { return std::future::pending().await };
        let input = async {
            let Some(from) = stdin else { return };
            // Before its start nobody reads the fifo, and what is in it goes when it is closed.
            if effects::started(&self.pod, &self.container).await.is_err() {
                return;
            }
            let bundle = self.pod.site.node.places.bundle(&self.container);
            input(from, &bundle.join("stdin")).await;
            if self.stdin_once
                && let Err(error) = self.shim.close_io(&target).await
            {
                log::debug!("{error}");
            }
        };
        // The one that the client has told already comes first.
        resize.mark_changed();
        let sizes = async {
            while let Some(size) = next_size(&mut resize).await {
                let resized = self.shim.resize(&target, size).await;
                resized.unwrap_or_else(|error| log::debug!("{error}"));
            }
        };
        tokio::join!(input, sizes);
        std::future::pending().await
    }
}

/// A session that connects to ports of a pod.
///
/// # Errors
/// Too many ports.
pub(crate) fn port_forward(pod: &str, netns: &str, ports: Vec<u16>) -> Result<Session, Fault> {
    let netns = netns.to_owned();
    let session = Session::port_forward(pod, ports, move |port| {
        let netns = netns.clone();
        async move { dial(netns, port).await }
    });
    session.map_err(|error| Fault::InvalidArgument(error.to_string()))
}

/// Connects to a port of the pod's loopback.
async fn dial(netns: String, port: u16) -> Result<TcpStream, String> {
    if netns.is_empty() {
        return TcpStream::connect(("localhost", port)).await.map_err(|error| error.to_string());
    }
    let dialled = tokio::task::spawn_blocking(move || {
        network::Netns::open(Path::new(&netns)).and_then(|netns| netns.dial(port))
    });
    let stream = dialled.await.map_err(|error| error.to_string())?;
    let stream = stream.map_err(|error| error.to_string())?;
    TcpStream::from_std(stream).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUTS: Wanted = Wanted { stdin: false, stdout: true, stderr: true, terminal: false };

    async fn all(mut from: pipe::Receiver) -> String {
        let mut text = String::new();
        from.read_to_string(&mut text).await.unwrap();
        text
    }

    async fn write(path: &str, text: &str) {
        let mut fifo = pipe::OpenOptions::new().open_sender(path).unwrap();
        fifo.write_all(text.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn output_that_comes_before_the_client_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("attach");
        // As a shim: it opens both and answers; the process writes and ends before anybody looks.
        let attach = async |out: String, err: String| {
            write(&out, "early").await;
            write(&err, "early error").await;
            Ok(())
        };
        let outputs = Outputs::open(&directory, OUTPUTS, attach).await.unwrap();
        assert!(!directory.exists());
        let (client, server) = tokio::io::duplex(64);
        output(outputs.stdout, Some(server)).await;
        let mut seen = String::new();
        { client }.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "early");
        assert_eq!(all(outputs.stderr.unwrap()).await, "early error");
    }

    #[tokio::test]
    async fn shim_that_refuses_leaves_no_fifos() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("attach");
        let mut asked = (String::new(), String::new());
        let wanted = Wanted { stderr: false, ..OUTPUTS };
        let refuse = |out: String, err: String| {
            asked = (out, err);
            std::future::ready(Err(Fault::NotFound("no container".into())))
        };
        let refused = Outputs::open(&directory, wanted, refuse).await;
        assert!(matches!(refused.err(), Some(Fault::NotFound(_))));
        assert!(asked.0.ends_with("/attach/stdout") && asked.1.is_empty(), "{asked:?}");
        assert!(!directory.exists());
    }
}
