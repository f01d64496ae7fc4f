//! The rest of a process's output when it is deleted.

use agent_api::container::CreateContainerRequest;
use agent_api::process::WaitResponse;
use agent_api::types::ContainerId as RpcContainer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::super::agent::Answer;
use super::*;

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

#[tokio::test(start_paused = true)]
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

#[tokio::test(start_paused = true)]
async fn reader_that_is_gone_does_not_hold_up_the_deletion() {
    let stage = Stage::running().await;
    ended(&stage).await;
    let since = tokio::time::Instant::now();
    stage.sandbox.delete(target("web", None)).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
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
