//! Where a process's output goes, and the rest of it when the process is deleted.

use agent_api::container::CreateContainerRequest;
use agent_api::process::WaitResponse;
use agent_api::types::ContainerId as RpcContainer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::super::agent::Answer;
use api::request::StdioPaths;

use super::*;
use crate::container::Status;

/// More than all that is on the way to a reader can hold.
const MUCH: usize = 1 << 20;

/// A container that has ended after it wrote `MUCH`, of which nobody has read anything; and its
/// fifo. Its end was told without the rest.
async fn ended(stage: &Stage) -> String {
    let stdout = fifo(stage.dir.path(), "stdout");
    let mut request = stage.request("web");
    request.stdio.stdout.clone_from(&stdout);
    let exit = stage.agent.hold("Process/Wait");
    stage.sandbox.create(request).await.unwrap();
    let asked: CreateContainerRequest = stage.agent.called("Container/Create").await;
    stage.sandbox.start_process(target("web", None)).await.unwrap();
    let mut output = stage.agent.stream(asked.streams.stdout).await;
    tokio::spawn(async move {
        output.write_all(&vec![b'x'; MUCH]).await.unwrap();
        output.shutdown().await
    });
    let ended = WaitResponse { exit_status: 3, ..Default::default() };
    exit.send(Answer::message(&ended)).unwrap();
    assert_eq!(stage.sandbox.wait(target("web", None)).await.unwrap().status, 3);
    stdout
}

#[tokio::test]
async fn reader_that_comes_back_gets_all_output_before_the_container_is_deleted() {
    let stage = Stage::running().await;
    let stdout = ended(&stage).await;
    let mut reader = pipe::OpenOptions::new().open_receiver(stdout).unwrap();
    let reading = async {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        all.len()
    };
    let (deleted, read) = tokio::join!(stage.sandbox.delete(target("web", None)), reading);
    assert_eq!((deleted.unwrap().1.status, read), (3, MUCH));
    stage.agent.called::<RpcContainer>("Container/Delete").await;
}

#[tokio::test]
async fn reader_that_is_gone_does_not_hold_up_the_deletion() {
    let stage = Stage::running().await;
    ended(&stage).await;
    let since = tokio::time::Instant::now();
    stage.sandbox.delete(target("web", None)).await.unwrap();
    // A reader that is there has five seconds.
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn reader_that_reads_nothing_holds_up_the_deletion_for_five_seconds() {
    let stage = Stage::running().await;
    let stdout = ended(&stage).await;
    let _reader = pipe::OpenOptions::new().open_receiver(stdout).unwrap();
    let since = tokio::time::Instant::now();
    stage.sandbox.delete(target("web", None)).await.unwrap();
    let took = since.elapsed().as_secs();
    assert!((4..=6).contains(&took), "{took} s");
}

/// Records of a log without their times.
fn records(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line[31..].to_owned()).collect()
}

async fn rest(mut client: pipe::Receiver) -> String {
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.unwrap();
    seen
}

#[tokio::test]
async fn log_is_rotated_while_clients_come_and_go_and_all_of_them_are_told_the_end() {
    let stage = Stage::running().await;
    let log = stage.dir.path().join("pods/web/0.log");
    let mut request = stage.request("web");
    request.stdio.stdout = format!("cri-log://{}", log.display());
    let exit = stage.agent.hold("Process/Wait");
    stage.sandbox.create(request).await.unwrap();
    let asked: CreateContainerRequest = stage.agent.called("Container/Create").await;
    let mut out = stage.agent.stream(asked.streams.stdout).await;
    let mut err = stage.agent.stream(asked.streams.stderr).await;
    // Before the start, so that no byte is missed.
    let fifos = ["out", "err", "late"].map(|name| fifo(stage.dir.path(), name));
    let [first, errors, late] =
        fifos.each_ref().map(|fifo| pipe::OpenOptions::new().open_receiver(fifo).unwrap());
    let [stdout, stderr, stdout_late] = fifos;
    let paths = StdioPaths { stdout, stderr, ..StdioPaths::default() };
    let id = ContainerId::new("web").unwrap();
    stage.sandbox.attach(id.clone(), paths).await.unwrap();
    stage.sandbox.start_process(target("web", None)).await.unwrap();
    let told = |count| eventually(move |log: &std::path::Path| records(log).len() == count);
    out.write_all(b"one\n").await.unwrap();
    told(1)(&log).await;
    let paths = StdioPaths { stdout: stdout_late, ..StdioPaths::default() };
    stage.sandbox.attach(id.clone(), paths).await.unwrap();
    let old = log.with_extension("old");
    std::fs::rename(&log, &old).unwrap();
    stage.sandbox.reopen_log(id.clone()).await.unwrap();
    err.write_all(b"error\n").await.unwrap();
    told(1)(&log).await;
    out.write_all(b"two\nend").await.unwrap();
    out.shutdown().await.unwrap();
    err.shutdown().await.unwrap();
    assert_eq!(rest(first).await, "one\ntwo\nend");
    assert_eq!(rest(late).await, "two\nend");
    assert_eq!(rest(errors).await, "error\n");
    exit.send(Answer::message(&WaitResponse::default())).unwrap();
    stage.sandbox.wait(target("web", None)).await.unwrap();
    // The end is told when all of the output is in the log.
    assert_eq!(records(&old), ["stdout F one"]);
    assert_eq!(records(&log), ["stderr F error", "stdout F two", "stdout P end"]);
}

/// Waits until a file is as it should be: it may be looked at before it is written.
fn eventually(is_so: impl Fn(&std::path::Path) -> bool) -> impl AsyncFn(&std::path::Path) {
    async move |path| {
        while !is_so(path) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn client_without_a_reader_and_container_without_a_log_are_refused_by_name() {
    let stage = Stage::running().await;
    stage.sandbox.create(stage.request("web")).await.unwrap();
    let id = ContainerId::new("web").unwrap();
    let stdout = fifo(stage.dir.path(), "nobody");
    let paths = StdioPaths { stdout: stdout.clone(), ..StdioPaths::default() };
    let error = stage.sandbox.attach(id.clone(), paths).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid(text) if text.contains(&stdout)), "{error}");
    let error = stage.sandbox.reopen_log(id).await.unwrap_err();
    assert!(matches!(&error, Error::State(text) if text.contains("web")), "{error}");
    let other = ContainerId::new("other").unwrap();
    assert_eq!(stage.sandbox.reopen_log(other).await.unwrap_err(), Error::no_container("other"));
}

#[tokio::test]
async fn containers_are_listed_with_their_states() {
    let stage = Stage::running().await;
    for id in ["one", "two"] {
        stage.sandbox.create(stage.request(id)).await.unwrap();
    }
    let exit = stage.agent.hold("Process/Wait");
    stage.sandbox.start_process(target("two", None)).await.unwrap();
    let listed = stage.sandbox.list().await.unwrap();
    let states: Vec<_> =
        listed.iter().map(|listed| (listed.id.as_str(), listed.pod, listed.init.status)).collect();
    let expected = [("one", false, Status::Created), ("two", false, Status::Running)];
    assert_eq!(states, expected);
    drop(exit);
}
