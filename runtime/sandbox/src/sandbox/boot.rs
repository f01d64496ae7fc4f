//! Booting the machine: everything from a pod's description to a guest that serves.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_api::sandbox::ConfigureRequest;
use tokio::sync::watch;

use super::{Booted, Owner, Phase, heartbeat};
use crate::cgroup::Cgroup;
use crate::guest::Guest;
use crate::live::Live;
use crate::machine::{self, Launch};
use crate::mounts::Share;
use crate::network::Joined;
use crate::sizing::{self, Limits};
use crate::store::StateDir;
use crate::{Config, Error, Pod, cgroup, network};

/// Longest hostname in bytes (`HOST_NAME_MAX`, sethostname(2)).
const MAX_HOSTNAME: usize = 64;

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
                self.phase = Phase::New;
            }
        }
        waiting.send_replace(Some(outcome));
    }
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
    let live = Live { machine, guest, share };
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
}
