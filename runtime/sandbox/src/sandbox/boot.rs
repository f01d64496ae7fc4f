//! Booting the machine, and what happens when it ends.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_api::sandbox::ConfigureRequest;
use tokio::sync::watch;
use tokio::time::Instant;
use vmm_api::MachineEnd;

use super::pod::KILLED;
use super::{Booted, Owner, Phase, Slot, heartbeat};
use crate::cgroup::Cgroup;
use crate::container::Target;
use crate::events::Exit;
use crate::guest::Guest;
use crate::machine::{self, End, Launch, Machine};
use crate::mounts::Share;
use crate::network::Joined;
use crate::sizing::{self, Limits};
use crate::store::StateDir;
use crate::{Config, ContainerId, Error, ExecId, Pod, cgroup, network};

/// How long a machine whose agent is gone may take to say why, and then to end when it is told to.
pub(super) const LAST_WORD: Duration = Duration::from_millis(500);

/// Longest hostname in bytes (`HOST_NAME_MAX`, sethostname(2)).
const MAX_HOSTNAME: usize = 64;

/// How long a guest may take to flush and power off if its agent says nothing meanwhile.
const POWER_OFF: Duration = Duration::from_secs(10);

/// How long it may take if its agent answers: gigabytes may be on their way to a slow disk.
const FLUSH: Duration = Duration::from_mins(1);

/// Pause between an answer meanwhile and the next question.
const STILL_THERE: Duration = Duration::from_secs(1);

/// Waits for a boot that somebody began.
pub(super) async fn booted(
    mut boot: watch::Receiver<Option<Result<Booted, Error>>>,
) -> Result<Booted, Error> {
    let outcome = boot.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
    outcome.unwrap_or_else(|| Err(Error::Failed("the boot was abandoned".into())))
}

impl Owner {
    /// The machine's boot, begun now for `pod` if nobody did before.
    ///
    /// # Errors
    /// When the machine is over, or its configuration can't be used.
    pub(super) fn boot(
        &mut self,
        pod: Pod,
    ) -> Result<watch::Receiver<Option<Result<Booted, Error>>>, Error> {
        match &self.phase {
            Phase::Booting(boot) => return Ok(boot.clone()),
            Phase::Running(booted) => {
                return Ok(watch::channel(Some(Ok(booted.clone()))).1);
            }
            Phase::Ended { .. } | Phase::Ending { .. } => self.booted().map(drop)?,
            Phase::New => {}
        }
        let config = Config::load()?;
        let shape = sizing::machine(&config, limits(&pod, &config), sizing::Host::read()?)?;
        self.cgroup = pod.cgroup.as_deref().map(Cgroup::new).transpose()?.flatten();
        let (sender, boot) = watch::channel(None);
        self.phase = Phase::Booting(boot.clone());
        let (state, cgroup) = (self.state.clone(), self.cgroup.clone());
        let name = self.identity.id.clone();
        let patience = config.guest_timeout;
        let work = async move {
            let oom_score_adj = pod.oom_score_adj.unwrap_or(0);
            let cgroup = cgroup.as_ref();
            let outcome = match make_share(&state) {
                Ok(share) => {
                    let (config, state) = (&config, &state);
                    let launch = Launch { config, shape, state, share, cgroup, oom_score_adj };
                    bring_up(launch, &pod, name.as_str()).await
                }
                Err(error) => Err(error),
            };
            if outcome.is_err()
                && let Err(error) = state.destroy_machine()
            {
                log::warn!("cleaning up after a failed boot: {error}");
            }
            outcome
        };
        self.run(work, move |owner, outcome| owner.boot_done(outcome, &sender, patience));
        Ok(boot)
    }

    fn boot_done(
        &mut self,
        outcome: Result<Booted, Error>,
        waiting: &watch::Sender<Option<Result<Booted, Error>>>,
        patience: Duration,
    ) {
        match &outcome {
            Ok(booted) => {
                self.phase = Phase::Running(booted.clone());
                let machine = booted.machine.clone();
                self.run(async move { machine.ended().await }, |owner, end| {
                    owner.machine_ended(&end)
                });
                self.run(watch_guest(booted.clone(), patience), |owner, reason| {
                    reason.iter().for_each(|reason| owner.guest_lost(reason));
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

    /// The guest does not do any more what it has to although the machine runs: end it, so that
    /// the truth becomes visible.
    pub(super) fn guest_lost(&mut self, reason: &str) {
        let Phase::Running(booted) = &self.phase else { return };
        if self.blame.is_some() {
            return;
        }
        let machine = booted.machine.clone();
        log::error!("guest lost: {reason}");
        self.blame = Some(reason.to_owned());
        tokio::spawn(async move { end_lost(&machine).await });
    }

    fn machine_ended(&mut self, end: &End) {
        let Phase::Running(booted) = &self.phase else { return };
        clear(&booted.share);
        // What the machine said of itself is the truth, unless it was this process that ended it.
        let own = !matches!(end.end, MachineEnd::Stopped | MachineEnd::Killed);
        let reason = match self.blame.take().filter(|_| !own) {
            Some(blame) => format!("{blame}; {}", end.reason),
            None => end.reason.clone(),
        };
        log::error!("machine ended: {reason}");
        self.phase = Phase::Ended { reason };
        self.end_containers(KILLED);
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
        // A guest that runs nothing and has nothing to write is not worth a proper power-off.
        let properly = self.careful || self.runs_something();
        let phase = std::mem::replace(&mut self.phase, Phase::Ended { reason: "shut down".into() });
        let (state, cgroup) = (self.state.clone(), self.cgroup.take());
        let work = async move {
            match phase {
                Phase::Running(booted) => {
                    note_closing(&state);
                    end(booted, properly).await;
                }
                Phase::Ending { mut over } => {
                    note_closing(&state);
                    // An error means that it is over, too.
                    let _over = over.wait_for(|over| *over).await;
                }
                Phase::New | Phase::Booting(_) | Phase::Ended { .. } => {}
            }
            if let Some(cgroup) = cgroup
                && let Err(error) = cgroup.dissolve()
            {
                log::warn!("removing {}: {error}", cgroup.path().display());
            }
            if let Err(error) = state.destroy_except(Some(std::process::id())) {
                log::error!("removing {}: {error}", state.path().display());
            }
        };
        self.run(work, |owner, ()| {
            // Those that wait for what ran until now are to hear of its end.
            owner.end_containers(KILLED);
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

/// Waits until the guest is lost, and tells why, or until the machine is over.
async fn watch_guest(booted: Booted, least: Duration) -> Option<String> {
    let Booted { machine, guest, .. } = booted;
    let boot = Duration::from_micros(machine.boot_us().unwrap_or_default());
    let ask = move || {
        let guest = guest.clone();
        async move { guest.check().await }
    };
    tokio::select! {
        reason = heartbeat::lost(ask, heartbeat::patience(least, boot)) => Some(reason),
        _ = machine.ended() => None,
    }
}

/// Ends a machine whose guest is lost, soon and in any case.
async fn end_lost(machine: &Machine) {
    // A panic or power-off breaks the connection as well and says more: let it speak first.
    if tokio::time::timeout(LAST_WORD, machine.ended()).await.is_ok() {
        return;
    }
    let stopped = async {
        if let Err(error) = machine.stop().await {
            log::debug!("stopping a machine without agent: {error}");
        }
        machine.ended().await
    };
    if tokio::time::timeout(LAST_WORD, stopped).await.is_err() {
        machine.kill();
    }
}

/// Ends the machine, `properly` by the guest itself, and waits until its network is undone: the
/// process may end after this.
pub(super) async fn end(mut booted: Booted, properly: bool) {
    end_machine(&booted, properly).await;
    clear(&booted.share);
    booted.network.undone().await;
}

/// Unmounts what nobody sees any more.
fn clear(share: &Share) {
    if let Err(error) = share.clear() {
        log::warn!("unmounting what the machine saw: {error}");
    }
}

async fn end_machine(booted: &Booted, properly: bool) {
    let power_off = async {
        if let Err(error) = booted.guest.shutdown(FLUSH).await {
            log::debug!("{error}");
        }
        booted.machine.ended().await
    };
    if properly {
        tokio::select! {
            _ = power_off => return,
            waited = given_up(|| booted.guest.check()) => {
                log::warn!("the guest did not power off within {} s", waited.as_secs());
            }
        }
    }
    if let Err(error) = booted.machine.stop().await {
        log::debug!("{error}");
    }
    booted.machine.ended().await;
}

/// Returns when a guest that powers off is waited for no more, with how long that was: its agent
/// is silent, or it takes too long in any case.
async fn given_up<A>(ask: impl Fn() -> A) -> Duration
where
    A: Future<Output = Result<(), Error>>,
{
    let begin = Instant::now();
    while begin.elapsed() < FLUSH {
        match tokio::time::timeout(POWER_OFF, ask()).await {
            Ok(Ok(())) => tokio::time::sleep(STILL_THERE).await,
            // The connection ends shortly before the machine.
            Ok(Err(_)) => {
                tokio::time::sleep(POWER_OFF).await;
                break;
            }
            Err(_) => break,
        }
    }
    begin.elapsed()
}

/// What the machine is sized by.
fn limits(pod: &Pod, config: &Config) -> Limits {
    match pod.cgroup.as_deref().filter(|_| pod.limits_in_cgroup) {
        Some(path) => pod.limits.or_of_pod_cgroup(Path::new(cgroup::ROOT), path, config),
        None => pod.limits,
    }
}

/// Makes what there must be before the machine.
fn make_share(state: &StateDir) -> Result<Arc<Share>, Error> {
    let made = state.create().and_then(|_| state.create_share());
    let failed = |error| Error::failed(&format!("making {}", state.path().display()), &error);
    Ok(Arc::new(made.map_err(failed)?))
}

async fn bring_up(launch: Launch<'_>, pod: &Pod, name: &str) -> Result<Booted, Error> {
    let hostname = hostname(pod, name)?;
    let state: StateDir = launch.state.clone();
    let limit = launch.config.boot_timeout;
    let vcpus = launch.shape.vcpus().into();
    let share = Arc::clone(&launch.share);
    state.step("boot");
    let network = network::begin(pod.network.as_deref(), &state, vcpus);
    let machine = Arc::new(machine::launch(launch).await?);
    share.seal().map_err(|error| Error::failed("leaving the host's mounts", &error))?;
    let ready = async {
        let took = machine.ready(limit).await?;
        state.step(&format!("ready {}", machine.boot_us().unwrap_or_default()));
        Ok(took)
    };
    let (took, network) = tokio::try_join!(ready, network.attach(&machine))?;
    log::info!("machine {} ready after {took} us", machine.pid());
    if let Err(error) = std::fs::write(state.ready(), format!("{took}\n")) {
        log::warn!("writing {}: {error}", state.ready().display());
    }
    let guest = Guest::connect(&state.vsock()).await?;
    let mut configuration = configuration(hostname, vcpus)?;
    let mut sysctls = pod.sysctls.clone();
    // Those of the network name interfaces, which are there only after `connect`.
    let own = match &network {
        Some(_) => network::Own::take(&mut sysctls),
        None => network::Own::default(),
    };
    configuration.sysctls.extend(sysctls);
    guest.configure(&configuration).await?;
    state.step("configured");
    let mut joined = Joined::default();
    if let Some(network) = network {
        joined = network.connect(&machine, &guest, own).await?;
        state.step("network");
    }
    Ok(Booted { machine, share, volumes: Arc::default(), guest, network: joined })
}

/// The pod's own, or the beginning of its name (pure). Identifiers are ASCII, and may be longer.
fn hostname<'pod>(pod: &'pod Pod, name: &'pod str) -> Result<&'pod str, Error> {
    match pod.hostname.as_deref() {
        Some(given) if given.len() > MAX_HOSTNAME => Err(Error::Invalid(format!(
            "hostname {given:?}: {} bytes, but {MAX_HOSTNAME} are the most",
            given.len()
        ))),
        Some(given) => Ok(given),
        None => Ok(name.get(..MAX_HOSTNAME).unwrap_or(name)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostname_is_the_pods_or_as_much_of_its_name_as_fits() {
        let long = "x".repeat(MAX_HOSTNAME + 1);
        let named = |hostname: Option<&str>| Pod {
            hostname: hostname.map(str::to_owned),
            ..Default::default()
        };
        assert_eq!(hostname(&named(Some("web-0")), &long).unwrap(), "web-0");
        assert_eq!(hostname(&named(None), "short").unwrap(), "short");
        assert_eq!(hostname(&named(None), &long).unwrap(), &long[1..]);
        let error = hostname(&named(Some(&long)), "short").unwrap_err().to_string();
        assert!(error.contains(&long) && error.contains("64"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn guest_that_answers_may_take_longer_to_power_off() {
        let there = given_up(|| async { Ok(()) }).await;
        assert!(there >= FLUSH && there < FLUSH + 2 * STILL_THERE, "{there:?}");
        assert_eq!(given_up(std::future::pending).await.as_secs(), POWER_OFF.as_secs());
        let gone = given_up(|| async { Err(Error::Failed("gone".into())) }).await;
        assert_eq!(gone.as_secs(), POWER_OFF.as_secs());
    }
}
