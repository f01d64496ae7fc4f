//! Booting the machine: everything from a pod's description to a guest that serves.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_api::sandbox::ConfigureRequest;
use api::Error;
use host::Config;
use host::cgroup::{Cgroup, Hierarchy};
use host::mounts::Share;
use host::store::StateDir;
use machine::Live;
use machine::guest::Guest;
use machine::{Boot, Launch, Machine};
use tokio::sync::{oneshot, watch};
use vmm_api::MachineConfig;

use super::{Booted, Outcome, Owner, Phase, heartbeat, last_word};
use crate::blocking::blocking;
use crate::network::{Joined, Pending};
use crate::sizing::{self, Limits};
use crate::{Pod, network};

/// Longest hostname in bytes (`HOST_NAME_MAX`, sethostname(2)).
const MAX_HOSTNAME: usize = 64;

impl Owner {
    /// The machine's boot, begun now for `pod` if nobody did before.
    ///
    /// # Errors
    /// When the machine is over, or its configuration can't be used.
    pub(super) fn boot(&mut self, pod: Pod) -> Result<Outcome, Error> {
        match &self.phase {
            Phase::Booting { boot, .. } => return Ok(boot.clone()),
            Phase::Running(booted) => {
                return Ok(watch::channel(Some(Ok(booted.clone()))).1);
            }
            Phase::Ended { .. } | Phase::Ending { .. } => self.booted().map(drop)?,
            Phase::New => {}
        }
        let config = Config::load()?;
        let shape = sizing::machine(&config, limits(&pod, &config), sizing::Host::read()?)?;
        let mut cgroup = pod.cgroup.as_deref().map(Cgroup::new).transpose()?.flatten();
        if let Some(cgroup) = &mut cgroup {
            let needs = u64::from(shape.memory().get()) + sizing::OVERHEAD_MIB;
            cgroup.make_room(needs, sizing::LEAST_MIB)?;
        }
        self.cgroup.clone_from(&cgroup);
        let state = self.state.clone();
        let name = self.identity.id.clone();
        let patience = config.guest_timeout;
        let work = async move |unwanted: oneshot::Receiver<()>| {
            let mut network = network::begin(pod.network.as_deref(), &state, shape.vcpus().into());
            let launch = Start { config: &config, shape, state: &state, cgroup: cgroup.as_ref() };
            let outcome = tokio::select! {
                outcome = bring_up(launch, &pod, name.as_str(), &mut network) => outcome,
                _ = unwanted => Err(Error::Unavailable("the sandbox is shutting down".into())),
            };
            if outcome.is_err() {
                network.over().await;
                undo(&state, cgroup);
            }
            outcome
        };
        Ok(self.begin_boot(work, patience))
    }

    /// Boots by `work`, which gives up, with all undone, when what it is given ends.
    pub(super) fn begin_boot<W>(
        &mut self,
        work: impl FnOnce(oneshot::Receiver<()>) -> W,
        patience: Duration,
    ) -> Outcome
    where
        W: Future<Output = Result<Booted, Error>> + Send + 'static,
    {
        let (sender, boot) = watch::channel(None);
        let (wanted, unwanted) = oneshot::channel();
        self.phase = Phase::Booting { boot: boot.clone(), _wanted: wanted };
        self.run(work(unwanted), move |owner, outcome| {
            owner.boot_done(outcome, &sender, patience);
        });
        boot
    }

    fn boot_done(
        &mut self,
        outcome: Result<Booted, Error>,
        waiting: &watch::Sender<Option<Result<Booted, Error>>>,
        patience: Duration,
    ) {
        match &outcome {
            // The sandbox's end waits for the machine, to end it.
            Ok(_) if self.closing => {}
            Ok(booted) => {
                self.phase = Phase::Running(booted.clone());
                let machine = booted.live.machine.clone();
                self.run(async move { machine.ended().await }, |owner, end| {
                    owner.machine_ended(&end)
                });
                self.run(heartbeat::watch(booted.live.clone(), patience), |owner, reason| {
                    reason.iter().for_each(|reason| owner.guest_lost(reason));
                });
            }
            // All is undone: a later create may try again, and shutdown finds nothing to end.
            Err(error) => {
                log::error!("boot failed: {error}");
                if !self.closing {
                    self.phase = Phase::New;
                }
            }
        }
        waiting.send_replace(Some(outcome));
    }
}

/// What the machine is sized by.
fn limits(pod: &Pod, config: &Config) -> Limits {
    match pod.cgroup.as_deref().filter(|_| pod.limits_in_cgroup) {
        Some(path) => {
            // The boot itself says what is wrong there.
            let hierarchies = Hierarchy::all().unwrap_or_default();
            pod.limits.or_of_pod_cgroup(&hierarchies, path, config)
        }
        None => pod.limits,
    }
}

/// The limit of memory that a pod was sized by, in bytes.
pub(super) fn memory_limit(pod: &Pod) -> Option<u64> {
    let of_cgroup = || limits(pod, &Config::load().ok()?).memory_bytes;
    pod.limits.memory_bytes.or_else(of_cgroup)
}

/// Makes what there must be before the machine.
fn make_share(state: &StateDir) -> Result<Arc<Share>, Error> {
    let made = state.create().and_then(|_| state.create_share());
    let failed = |error| Error::failed(&format!("making {}", state.path().display()), &error);
    Ok(Arc::new(made.map_err(failed)?))
}

/// Takes back what a boot that failed has made.
fn undo(state: &StateDir, cgroup: Option<Cgroup>) {
    if let Err(error) = state.destroy_machine() {
        log::warn!("cleaning up after a failed boot: {error}");
    }
    // This process goes back to where it came from: the next boot remembers that place as its home.
    if let Some(Err(error)) = cgroup.map(|cgroup| cgroup.dissolve()) {
        log::warn!("cleaning up after a failed boot: leaving the pod's cgroup: {error}");
    }
}

/// What a boot starts from.
struct Start<'a> {
    config: &'a Config,
    shape: MachineConfig,
    state: &'a StateDir,
    cgroup: Option<&'a Cgroup>,
}

async fn bring_up(
    start: Start<'_>,
    pod: &Pod,
    name: &str,
    network: &mut Pending,
) -> Result<Booted, Error> {
    let Start { config, shape, state, cgroup } = start;
    let hostname = hostname(pod, name)?;
    let share = make_share(state)?;
    let limit = config.boot_timeout;
    let vcpus = shape.vcpus().into();
    state.step("boot");
    let oom_score_adj = pod.oom_score_adj.unwrap_or(0);
    let launch = Launch { config, shape, state, share: Arc::clone(&share), cgroup, oom_score_adj };
    let (machine, boot) = machine::launch(launch)?;
    let configuration = configuration(hostname, vcpus)?;
    let to_do =
        ToDo { boot: Some(boot), limit, state, sysctls: pod.sysctls.clone(), configuration };
    reach(Arc::new(machine), share, to_do, network, cgroup).await
}

/// What there is to do with a machine until it serves.
pub(super) struct ToDo<'a> {
    /// What it boots from, if it does not run yet.
    pub(super) boot: Option<Boot>,
    /// How long the guest may take until its agent serves.
    pub(super) limit: Duration,
    pub(super) state: &'a StateDir,
    /// Kernel parameters that the pod wants.
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) configuration: ConfigureRequest,
}

/// Brings a machine to where its guest serves. What fails when the machine ends is told by the
/// machine's end; it is in `cgroup`.
pub(super) async fn reach(
    machine: Arc<Machine>,
    share: Arc<Share>,
    to_do: ToDo<'_>,
    network: &mut Pending,
    cgroup: Option<&Cgroup>,
) -> Result<Booted, Error> {
    let error = match settle(&machine, share, to_do, network).await {
        Ok(booted) => return Ok(booted),
        Err(error) => error,
    };
    match last_word::last_word(&machine, &error).await {
        Some(end) => Err(Error::machine_over(&last_word::reason(&end, None, cgroup))),
        None => Err(error),
    }
}

async fn settle(
    machine: &Arc<Machine>,
    share: Arc<Share>,
    to_do: ToDo<'_>,
    network: &mut Pending,
) -> Result<Booted, Error> {
    let ToDo { boot, limit, state, mut sysctls, mut configuration } = to_do;
    if let Some(boot) = boot {
        machine.boot(boot).await?;
        let (share, doing) = (Arc::clone(&share), "leaving the host's mounts");
        let seal = move || share.seal().map_err(|error| Error::failed(doing, &error));
        blocking(doing, seal).await?;
    }
    let ready = async {
        let took = machine.ready(limit).await?;
        state.step(&format!("ready {}", machine.boot_us().unwrap_or_default()));
        Ok(took)
    };
    let (took, network) = tokio::try_join!(ready, network.attach(machine))?;
    log::info!("machine {} ready after {took} us", machine.pid());
    if let Err(error) = std::fs::write(state.ready(), format!("{took}\n")) {
        log::warn!("writing {}: {error}", state.ready().display());
    }
    let guest = Guest::connect(&state.vsock(), machine.patience().clone()).await?;
    // Those of the network name interfaces, which are there only after `connect`.
    let own = match &network {
        Some(_) => network::Own::take(&mut sysctls),
        None => network::Own::default(),
    };
    configuration.sysctls.extend(sysctls);
    guest.configure(&configuration).await?;
    state.step("configured");
    let live = Live { machine: Arc::clone(machine), guest, share, writes: Arc::default() };
    let mut joined = Joined::default();
    if let Some(network) = network {
        joined = network.connect(&live, own).await?;
        state.step("network");
    }
    Ok(Booted { live, volumes: Arc::default(), network: joined })
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
    use std::path::Path;

    use super::*;

    #[test]
    fn failed_boot_puts_this_process_back_to_where_it_came_from() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().to_owned();
        let (pod, home) = (top.join("pod"), top.join("home"));
        for cgroup in [&pod, &home] {
            std::fs::create_dir(cgroup).unwrap();
        }
        std::fs::write(pod.join("cgroup.procs"), "4711\n").unwrap();
        let state = StateDir::at(&dir.path().join("test/pod"));
        state.create().unwrap();
        let cgroup = Cgroup::of([Hierarchy::unified(top, home.clone())], Path::new("pod"));
        undo(&state, Some(cgroup));
        assert_eq!(std::fs::read_to_string(home.join("cgroup.procs")).unwrap(), "4711");
    }

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
}
