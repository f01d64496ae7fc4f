//! `cuddy run`: a container in a pod of its own, from a command line.

mod options;
mod place;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use protocol::cri::{CreateContainerRequest, StartContainerRequest};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::attach;
use super::pull::pull;
use crate::client::{Client, ClientError, answer};
use crate::plan::{LOG, Plan};
use crate::{ending, output};

pub(crate) use options::{Pull, RunArgs};
use place::Made;

/// The grace of a container that is told to end by a signal to this command, in seconds.
const GRACE: u32 = 10;

/// The code of a command that SIGINT ended.
const INTERRUPTED: u8 = 130;

impl RunArgs {
    /// Runs it.
    pub(crate) async fn run(self: Box<Self>, client: &Client) -> anyhow::Result<ExitCode> {
        let plan = self.plan()?;
        let log = Path::new(&plan.logs).join(LOG);
        let mut made = Made { client, pod: None, container: None, log };
        let mut interrupts = Interrupts::new()?;
        let created = tokio::select! {
            created = self.create(&plan, &mut made) => Some(created),
            () = interrupts.next() => None,
        };
        let id = match created {
            Some(Ok(id)) => id,
            Some(Err(error)) => {
                made.undo().await;
                return Err(error);
            }
            None => {
                made.undo().await;
                return Ok(ExitCode::from(INTERRUPTED));
            }
        };
        let ran = self.attend(client, &id, &plan, &mut interrupts).await;
        let runs_on = ran.is_ok() && (self.detach || self.is_left(client, &id).await?);
        if runs_on {
            return ran;
        }
        match (&ran, self.remove) {
            // A container that never ran is of no use.
            (Err(_), _) | (_, true) => made.undo().await,
            // It has ended: this waits for its machine.
            _ => ending::stop(client, &id, 0).await?,
        }
        ran
    }

    /// Whether the user has left it alone.
    async fn is_left(&self, client: &Client, id: &str) -> Result<bool, ClientError> {
        Ok(ending::runs(&client.container(id).await?))
    }

    /// Makes the container, and the pod that it is in unless it joins another; the container's id.
    async fn create(&self, plan: &Plan, made: &mut Made<'_>) -> anyhow::Result<String> {
        let client = made.client;
        place::is_free(client, &plan.name, self.pod.is_none()).await?;
        let here = match self.pull {
            Pull::Always => None,
            _ => client.image(&plan.image).await?.map(|image| image.id),
        };
        let image = match here {
            Some(image) => image,
            None if self.pull == Pull::Never => bail!("no image {:?} is here", plan.image),
            None => pull(client, &plan.image, self.quiet)
                .await
                .with_context(|| format!("pulling {}", plan.image))?,
        };
        let (pod_sandbox_id, sandbox_config) = match &self.pod {
            Some(other) => (place::joined(client, other).await?, None),
            None => {
                let (pod, config) = made.pod(plan).await?;
                (pod, Some(config))
            }
        };
        let config = Some(plan.container(&image));
        let request = CreateContainerRequest { pod_sandbox_id, config, sandbox_config };
        let id = answer(client.runtime().create_container(request).await)?.container_id;
        made.container = Some(id.clone());
        Ok(id)
    }

    /// Starts the container and, unless it is to run alone, carries its streams to its end. They
    /// are there before it starts, so that nothing is lost.
    async fn attend(
        &self,
        client: &Client,
        id: &str,
        plan: &Plan,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<ExitCode> {
        let start = StartContainerRequest { container_id: id.to_owned() };
        if self.detach {
            answer(client.runtime().start_container(start).await)?;
            output::print(format!("{id}\n").as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        let session = attach::attach(client, id, plan.stdin, plan.tty).await?;
        let streams = (plan.stdin, plan.tty);
        let carried = attach::finish(client, id, session, streams);
        tokio::pin!(carried);
        let started = async { answer(client.runtime().start_container(start).await) };
        tokio::select! {
            biased;
            started = started => drop(started?),
            ended = &mut carried => return ended,
        }
        let mut grace = GRACE;
        loop {
            tokio::select! {
                ended = &mut carried => return ended,
                () = interrupts.next() => {
                    let (client, id, seconds) = (client.clone(), id.to_owned(), grace);
                    // The second time it is killed.
                    grace = 0;
                    tokio::spawn(async move {
                        if let Err(error) = ending::stop(&client, &id, seconds).await {
                            eprintln!("cuddy: stopping the container: {error}");
                        }
                    });
                }
            }
        }
    }
}

/// Ctrl-C, and SIGTERM.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> std::io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
