//! Booting the machine, and what happens when it ends.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_api::sandbox::ConfigureRequest;
use serde_json::Value;
use tokio::sync::watch;

use super::{Booted, Owner, Phase, Slot};
use crate::container::Target;
use crate::events::Exit;
use crate::guest::Guest;
use crate::machine::{self, End, Launch};
use crate::store::StateDir;
use crate::{Config, ContainerId, Error, ExecId, sizing};

/// Exit status of a process that went down with its machine: 128 plus SIGKILL.
const KILLED: u32 = 137;

/// How long a guest may take to flush and power off.
const POWER_OFF: Duration = Duration::from_secs(10);

/// Waits for a boot that somebody began.
pub(super) async fn booted(
    mut boot: watch::Receiver<Option<Result<Booted, Error>>>,
) -> Result<Booted, Error> {
    let outcome = boot.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
    outcome.unwrap_or_else(|| Err(Error::Failed("the boot was abandoned".into())))
}

impl Owner {
    /// The machine's boot, begun now for the pod that `spec` describes if nobody did before.
    ///
    /// # Errors
    /// When the machine is over, or its configuration can't be used.
    pub(super) fn boot(
        &mut self,
        spec: &Value,
    ) -> Result<watch::Receiver<Option<Result<Booted, Error>>>, Error> {
        match &self.phase {
            Phase::Booting(boot) => return Ok(boot.clone()),
            Phase::Running(booted) => {
                return Ok(watch::channel(Some(Ok(booted.clone()))).1);
            }
            Phase::Ended { reason } => return Err(Error::MachineEnded(reason.clone())),
            Phase::New => {}
        }
        let config = Config::load()?;
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let host = sizing::host_memory_mib(&meminfo)
            .ok_or_else(|| Error::Failed("reading the host's memory size".into()))?;
        let shape = sizing::machine(&config, sizing::Limits::from_spec(spec), host)?;
        let hostname = spec.get("hostname").and_then(Value::as_str);
        let hostname = hostname.unwrap_or(self.identity.id.as_str()).to_owned();
        let (sender, boot) = watch::channel(None);
        self.phase = Phase::Booting(boot.clone());
        let state = self.state.clone();
        let work = async move {
            let launch = Launch { config: &config, shape, state: &state };
            let outcome = bring_up(launch, &hostname).await;
            if outcome.is_err()
                && let Err(error) = state.destroy_machine()
            {
                log::warn!("cleaning up after a failed boot: {error}");
            }
            outcome
        };
        self.run(work, move |owner, outcome| owner.boot_done(outcome, &sender));
        Ok(boot)
    }

    fn boot_done(
        &mut self,
        outcome: Result<Booted, Error>,
        waiting: &watch::Sender<Option<Result<Booted, Error>>>,
    ) {
        match &outcome {
            Ok(booted) => {
                self.phase = Phase::Running(booted.clone());
                let machine = booted.machine.clone();
                self.run(async move { machine.ended().await }, |owner, end| {
                    owner.machine_ended(&end)
                });
            }
            // All is undone: a later create may try again, and shutdown finds nothing to end.
            Err(error) => {
                log::error!("boot failed: {error}");
                self.phase = Phase::New;
            }
        }
        waiting.send_replace(Some(outcome));
    }

    /// The guest does not answer any more although the machine runs: end it, so that the truth
    /// becomes visible.
    pub(super) fn guest_lost(&mut self, reason: &str) {
        let Phase::Running(booted) = &self.phase else { return };
        let machine = booted.machine.clone();
        log::error!("connection to the guest's agent lost: {reason}");
        tokio::spawn(async move {
            // A panic or power-off breaks the connection as well and says more: let it speak first.
            let grace = Duration::from_secs(1);
            if tokio::time::timeout(grace, machine.ended()).await.is_err()
                && let Err(error) = machine.stop().await
            {
                log::debug!("stopping a machine without agent: {error}");
            }
        });
    }

    fn machine_ended(&mut self, end: &End) {
        if !matches!(self.phase, Phase::Running(_)) {
            return;
        }
        log::error!("machine ended: {}", end.reason);
        self.phase = Phase::Ended { reason: end.reason.clone() };
        let exit = Exit { status: KILLED, at: SystemTime::now() };
        let ids: Vec<ContainerId> = self.containers.keys().cloned().collect();
        for id in ids {
            self.end_all(&id, exit);
        }
    }

    /// Ends every process of a container that has not ended, execs first.
    pub(super) fn end_all(&mut self, id: &ContainerId, exit: Exit) {
        let Some(Slot::Present(container)) = self.containers.get(id) else { return };
        let execs = container.execs.iter().filter(|(_, exec)| exec.is_running());
        let execs: Vec<ExecId> = execs.map(|(exec, _)| exec.clone()).collect();
        for exec in execs {
            let target = Target { container: id.clone(), exec: Some(exec) };
            self.exited(&target, exit, None);
        }
        self.exited(&Target { container: id.clone(), exec: None }, exit, None);
    }

    /// Ends the machine if there is one, removes all state and says so.
    pub(super) fn close(&mut self) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        if let Some(socket) = self.identity.socket.take()
            && let Err(error) = std::fs::remove_file(&socket)
        {
            log::debug!("removing {}: {error}", socket.display());
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Ended { reason: "shut down".into() });
        let state = self.state.clone();
        // A guest that runs nothing and has nothing to write is not worth a proper power-off.
        let properly = self.careful || !self.is_empty();
        let work = async move {
            if let Phase::Running(booted) = phase {
                note_closing(&state);
                end(booted, properly).await;
            }
            if let Err(error) = state.destroy_except(Some(std::process::id())) {
                log::error!("removing {}: {error}", state.path().display());
            }
        };
        self.run(work, |owner, ()| {
            owner.closed.send_replace(true);
        });
    }
}

/// Asks those who clean up by force for patience.
fn note_closing(state: &StateDir) {
    if let Err(error) = std::fs::write(state.closing(), "") {
        log::warn!("writing {}: {error}", state.closing().display());
    }
}

/// Ends the machine, `properly` by the guest itself.
async fn end(booted: Booted, properly: bool) {
    let power_off = async {
        if let Err(error) = booted.guest.shutdown(POWER_OFF).await {
            log::debug!("{error}");
        }
        booted.machine.ended().await
    };
    if properly {
        if tokio::time::timeout(POWER_OFF, power_off).await.is_ok() {
            return;
        }
        log::warn!("the guest did not power off within {} s", POWER_OFF.as_secs());
    }
    if let Err(error) = booted.machine.stop().await {
        log::debug!("{error}");
    }
    booted.machine.ended().await;
}

async fn bring_up(launch: Launch<'_>, hostname: &str) -> Result<Booted, Error> {
    let state: StateDir = launch.state.clone();
    let limit = launch.config.boot_timeout;
    let vcpus = launch.shape.vcpus().into();
    let made = state.create().and_then(|_| state.create_share());
    made.map_err(|error| Error::failed(&format!("making {}", state.path().display()), &error))?;
    let machine = Arc::new(machine::launch(launch).await?);
    let took = machine.ready(limit).await?;
    log::info!("machine {} ready after {took} us", machine.pid());
    if let Err(error) = std::fs::write(state.ready(), format!("{took}\n")) {
        log::warn!("writing {}: {error}", state.ready().display());
    }
    let guest = Guest::connect(&state.vsock()).await?;
    guest.configure(&configuration(hostname, vcpus)?).await?;
    Ok(Booted { machine, guest })
}

fn configuration(hostname: &str, online_cpus: u32) -> Result<ConfigureRequest, Error> {
    let mut entropy = vec![0; 64];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut entropy))
        .map_err(|error| Error::failed("reading random bytes", &error))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(ConfigureRequest {
        hostname: hostname.to_owned(),
        clock_unix_ns: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
        entropy,
        share_tag: machine::SHARE_TAG.to_owned(),
        online_cpus,
        ..Default::default()
    })
}
