use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe;

use super::*;
use crate::Companion;

/// A companion in this process.
struct Here {
    dir: tempfile::TempDir,
    companion: Companion,
    served: tokio::task::JoinHandle<io::Result<()>>,
}

impl Here {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let served = tokio::spawn(serve(listener));
        Self { dir, companion: Companion::at(socket), served }
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        path
    }

    fn outputs(&self) -> Outputs {
        Outputs {
            id: "c".into(),
            stdout: Some(self.fifo("out")),
            stderr: Some(self.fifo("err")),
            log: Some(self.dir.path().join("0.log")),
            longest: 16,
        }
    }

    fn log(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join(name)).unwrap();
        text.lines().map(|line| line[31..].to_owned()).collect()
    }

    async fn ask(&self, request: Request) {
        self.companion.ask(&request).await.unwrap();
    }
}

fn id() -> String {
    "c".to_owned()
}

fn writer(path: &Path) -> pipe::Sender {
    pipe::OpenOptions::new().read_write(true).open_sender(path).unwrap()
}

#[tokio::test]
async fn outputs_are_in_the_log_when_they_are_drained() {
    let here = Here::new();
    let outputs = here.outputs();
    here.ask(Request::Open(outputs.clone())).await;
    // Again, as a daemon does that was started anew.
    here.ask(Request::Open(outputs.clone())).await;
    let (mut out, mut err) =
        (writer(outputs.stdout.as_deref().unwrap()), writer(outputs.stderr.as_deref().unwrap()));
    out.write_all(b"hello\n").await.unwrap();
    err.write_all(b"part").await.unwrap();
    drop((out, err));
    here.ask(Request::Drain { id: id() }).await;
    let mut log = here.log("0.log");
    log.sort();
    assert_eq!(log, ["stderr P part", "stdout F hello"]);
    here.ask(Request::Close { id: id() }).await;
    let error = here.companion.ask(&Request::Drain { id: id() }).await.unwrap_err();
    assert_eq!(error.to_string(), "no outputs of container c");
}

#[tokio::test]
async fn log_goes_on_in_a_new_file() {
    let here = Here::new();
    let outputs = Outputs { stderr: None, ..here.outputs() };
    here.ask(Request::Open(outputs.clone())).await;
    let mut out = writer(outputs.stdout.as_deref().unwrap());
    out.write_all(b"one\n").await.unwrap();
    while here.log("0.log").is_empty() {
        tokio::task::yield_now().await;
    }
    std::fs::rename(here.dir.path().join("0.log"), here.dir.path().join("old")).unwrap();
    here.ask(Request::Reopen { id: id() }).await;
    out.write_all(b"two\n").await.unwrap();
    drop(out);
    here.ask(Request::Drain { id: id() }).await;
    assert_eq!(
        (here.log("old"), here.log("0.log")),
        (vec!["stdout F one".into()], vec!["stdout F two".into()])
    );
}

#[tokio::test]
async fn client_sees_what_comes_and_the_end() {
    let here = Here::new();
    let outputs = here.outputs();
    here.ask(Request::Open(outputs.clone())).await;
    let path = here.fifo("client");
    let mut client = pipe::OpenOptions::new().open_receiver(&path).unwrap();
    here.ask(Request::Attach { id: id(), stdout: Some(path), stderr: None }).await;
    let mut out = writer(outputs.stdout.as_deref().unwrap());
    out.write_all(b"seen").await.unwrap();
    drop(out);
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "seen");
}

/// The companion is killed; the shim, which holds both ends of its fifo, writes on.
#[tokio::test]
async fn another_companion_goes_on_where_one_was_killed() {
    let mut here = Here::new();
    let outputs = Outputs { stderr: None, ..here.outputs() };
    here.ask(Request::Open(outputs.clone())).await;
    let path = outputs.stdout.clone().unwrap();
    // It can be read, too.
    let mut out = writer(&path);
    here.ask(Request::End).await;
    (&mut here.served).await.unwrap().unwrap();
    // Its containers go with it.
    tokio::task::yield_now().await;
    out.write_all(b"meanwhile\n").await.unwrap();
    let container = Container::open(&outputs).await.unwrap();
    while std::fs::read_to_string(here.dir.path().join("0.log")).unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(here.log("0.log"), ["stdout F meanwhile"]);
    drop(container);
}

#[tokio::test]
async fn end_of_a_companion_is_seen_and_leaves_no_socket() {
    let mut here = Here::new();
    let looking = here.companion.clone();
    let gone = tokio::spawn(async move { looking.gone().await });
    here.companion.end().await.unwrap();
    (&mut here.served).await.unwrap().unwrap();
    gone.await.unwrap();
    here.companion.gone().await;
    assert!(!here.dir.path().join("socket").exists());
    here.companion.end().await.unwrap();
}
