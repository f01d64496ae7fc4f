//! ExecSync: runs a process in a container and answers what it wrote. Probes come this way.

use std::sync::Arc;
use std::time::Duration;

use protocol::cri::{ContainerState, ExecSyncRequest, ExecSyncResponse};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tonic::Request;

use crate::exec::{Exec, Streams};
use crate::fault::Fault;
use crate::pod::site::Site;
use crate::pods::Pods;

/// Most bytes of each output that are answered: both must fit into the 16 MiB that clients take.
const MOST: usize = (16 << 20) / 2 - (64 << 10);

/// How long the rest of the output may take to come when the process has ended: others may hold it
/// open.
const DRAIN: Duration = Duration::from_secs(2);

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<ExecSyncRequest>,
) -> Result<ExecSyncResponse, Fault> {
    let ExecSyncRequest { container_id, cmd, timeout } = request.into_inner();
    let now = pods.node.records.now();
    let row = now.container(&container_id)?;
    if row.state() != ContainerState::ContainerRunning {
        return Err(Fault::FailedPrecondition(format!("container {} does not run", row.id)));
    }
    let site = Arc::clone(&pods.get(&row.pod)?.site);
    let limit = u64::try_from(timeout).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let id = row.id.clone();
    // The caller's going drops this, and then the process is killed.
    let (_waits, gone) = oneshot::channel::<()>();
    let done = tokio::spawn(async move { exec(&site, &id, &cmd, limit, gone).await });
    done.await.map_err(|_| Fault::Internal("executing: cuddyd ends".into()))?
}

async fn exec(
    site: &Site,
    container: &str,
    cmd: &[String],
    limit: Option<Duration>,
    gone: oneshot::Receiver<()>,
) -> Result<ExecSyncResponse, Fault> {
    let streams = Streams { stdout: true, stderr: true, ..Streams::default() };
    let mut exec = Exec::create(site, container, cmd, streams).await?;
    let (stdout, stderr) = (exec.stdout.take(), exec.stderr.take());
    let ran = async {
        exec.start().await?;
        let outputs = tokio::spawn(async { tokio::join!(output(stdout), output(stderr)) });
        let exit = exec.wait().await?;
        Ok::<_, Fault>((exit, outputs))
    };
    let answer = tokio::select! {
        ran = ran => match ran {
            Ok((exit, outputs)) => Ok((exit, drained(outputs).await)),
            Err(fault) => Err(fault),
        },
        () = passed(limit) => {
            exec.kill().await;
            let text = format!("the process has not ended in {limit:?}: it was killed");
            Err(Fault::DeadlineExceeded(text))
        }
        _ = gone => {
            exec.kill().await;
            Err(Fault::Cancelled("who asked has hung up: the process was killed".into()))
        }
    };
    exec.remove().await;
    let (exit, (stdout, stderr)) = answer?;
    let exit_code = i32::try_from(exit.status).unwrap_or(i32::MAX);
    Ok(ExecSyncResponse { stdout, stderr, exit_code })
}

type Outputs = (Vec<u8>, Vec<u8>);

/// What was written, or nothing if somebody keeps the outputs open for too long.
async fn drained(mut outputs: tokio::task::JoinHandle<Outputs>) -> Outputs {
    match tokio::time::timeout(DRAIN, &mut outputs).await {
        Ok(outputs) => outputs.unwrap_or_default(),
        Err(_) => {
            outputs.abort();
            Outputs::default()
        }
    }
}

/// The beginning of an output; the rest is read and dropped, so that the process goes on.
async fn output(fifo: Option<pipe::Receiver>) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let Some(mut fifo) = fifo else { return kept };
    while let Ok(read @ 1..) = fifo.read(&mut buffer).await {
        let room = MOST - kept.len();
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
    kept
}

async fn passed(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}
