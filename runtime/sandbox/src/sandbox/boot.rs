//! Booting the machine: everything from a pod's description to a guest that serves.

mod settle;
mod templates;

use std::sync::Arc;
use std::time::Duration;

use api::{Error, Namespace};
use host::Config;
use host::capacity::Host;
use host::cgroup::{Cgroup, Hierarchy};
use host::mounts::Share;
use host::store::StateDir;
use machine::{Boot, From, Launch, Machine};
use template::{Template, Wish};
use tokio::sync::{oneshot, watch};
use vmm_api::MachineConfig;

use super::{Booted, Outcome, Owner, Phase, heartbeat, last_word};
use crate::network::Pending;
use crate::sizing::{self, Limits};
use crate::{Pod, network};
use settle::{Setback, settle_clone};
pub(super) use settle::{ToDo, reach};
use templates::Templates;

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
        let size = size(&pod, &config, &self.identity.namespace)?;
        hostname(&pod, self.identity.id.as_str())?;
        let mut cgroup = pod.cgroup.as_deref().map(Cgroup::new).transpose()?.flatten();
        if let Some(cgroup) = &mut cgroup {
            let needs = u64::from(size.machine.memory().get()) + sizing::OVERHEAD_MIB;
            cgroup.make_room(needs, sizing::LEAST_MIB)?;
        }
        self.cgroup.clone_from(&cgroup);
        let state = self.state.clone();
        let name = self.identity.id.clone();
        let patience = config.guest_timeout;
        let work = async move |unwanted: oneshot::Receiver<()>| {
            let vcpus = size.machine.vcpus().into();
            let mut network = network::begin(pod.network.as_deref(), &state, vcpus);
            let (config, state, name) = (&config, &state, name.as_str());
            let start = Start { config, size, state, cgroup: cgroup.as_ref(), pod: &pod, name };
            let outcome = tokio::select! {
                outcome = bring_up(&start, &mut network) => outcome,
                _ = unwanted => Err(Error::Unavailable("the sandbox is shutting down".into())),
            };
            if outcome.is_err() {
                network.over().await;
                undo(state, cgroup);
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
    /// What the pod is given.
    size: Size,
    state: &'a StateDir,
    cgroup: Option<&'a Cgroup>,
    pod: &'a Pod,
    /// Beginning of the guest's name, and of its hostname if it has no other.
    name: &'a str,
}

/// How large a pod is.
#[derive(Debug, Clone)]
struct Size {
    machine: MachineConfig,
    /// What its containers may use together, in bytes; 0 for as much as there is.
    containers_limit: u64,
    /// The template for a machine of this size.
    wish: Wish,
    host: Host,
}

/// How large `pod` is made on this host.
fn size(pod: &Pod, config: &Config, namespace: &Namespace) -> Result<Size, Error> {
    let (host, limits) = (Host::read()?, limits(pod, config));
    let machine = sizing::machine(config, limits, host)?;
    let mib = machine.memory().get().into();
    let class = template::class_for(mib, host.memory_mib).unwrap_or(mib);
    let containers_limit = sizing::containers_limit(config, limits, mib, class);
    // Names of Kubernetes and of containerd are not mixed up: one of these has no slash.
    let tenant = pod.namespace.clone().unwrap_or_else(|| format!("containerd/{namespace}"));
    let wish = Wish { memory_mib: class, tenant: Some(tenant) };
    Ok(Size { machine, containers_limit, wish, host })
}

/// Starts the machine from a template, if there is one that works; else it boots, and a template
/// is built for the next.
async fn bring_up(start: &Start<'_>, network: &mut Pending) -> Result<Booted, Error> {
    start.state.step("boot");
    let templates = Templates::look(start.config, &start.size.wish, start.size.host);
    if let Some(found) = templates.found() {
        match start.go_on(found, network).await {
            Ok(booted) => return Ok(booted),
            Err(Setback::Pod(error)) => return Err(error),
            Err(Setback::Template(reason)) => templates.set_aside(&reason),
        }
    }
    let booted = start.boot(network).await?;
    templates.ask_for_one();
    Ok(booted)
}

impl Start<'_> {
    /// Boots a machine.
    async fn boot(&self, network: &mut Pending) -> Result<Booted, Error> {
        let share = make_share(self.state)?;
        let (machine, boot) = self.launch(From::Kernel, &share)?;
        let to_do = self.to_do(boot, None)?;
        reach(machine, share, to_do, network, self.cgroup).await
    }

    /// Has a machine go on where a template was saved. If that fails it is ended, with all that it
    /// has on the host, and another one can be started.
    async fn go_on(&self, template: Template, network: &mut Pending) -> Result<Booted, Setback> {
        let recipe = template.record.recipe.clone();
        let shape = recipe.shape(self.size.machine.vcpus().into())?;
        let saved = template.into_saved(self.config);
        let saved = saved.map_err(|error| Setback::Template(error.to_string()))?;
        self.state.step("template");
        let share = make_share(self.state)?;
        let launch = self.launch_shape(From::Saved(saved), shape, &share);
        let (machine, boot) = launch?;
        let to_do = self.to_do(boot, Some(machine::SHARE_WINDOW))?;
        let limit = template::limit(self.config);
        let outcome = settle_clone(&machine, share, to_do, network, limit).await;
        let setback = match outcome {
            Ok(booted) => return Ok(booted),
            Err(setback) => setback,
        };
        machine.kill();
        let end = machine.ended().await;
        if end.killed() && self.cgroup.and_then(Cgroup::out_of_memory).is_some() {
            let reason = last_word::reason(&end, None, self.cgroup);
            return Err(Setback::Pod(Error::machine_over(&reason)));
        }
        drop(machine);
        let undone = self.state.destroy_machine();
        undone.map_err(|error| Error::failed("clearing up after a clone", &error))?;
        Err(setback)
    }

    fn launch(&self, from: From, share: &Arc<Share>) -> Result<(Arc<Machine>, Boot), Error> {
        self.launch_shape(from, self.size.machine.clone(), share)
    }

    fn launch_shape(
        &self,
        from: From,
        shape: MachineConfig,
        share: &Arc<Share>,
    ) -> Result<(Arc<Machine>, Boot), Error> {
        let launch = Launch {
            config: self.config,
            shape,
            from,
            state: self.state,
            share: Arc::clone(share),
            cgroup: self.cgroup,
            oom_score_adj: self.pod.oom_score_adj.unwrap_or(0),
        };
        let (machine, boot) = machine::launch(launch)?;
        Ok((Arc::new(machine), boot))
    }

    fn to_do(&self, boot: Boot, share_window: Option<u32>) -> Result<ToDo<'_>, Error> {
        let hostname = hostname(self.pod, self.name)?;
        let mut configuration = machine::configuration(hostname, self.size.machine.vcpus().into())?;
        configuration.share_window = share_window;
        configuration.memory_limit_bytes = self.size.containers_limit;
        Ok(ToDo {
            boot: Some(boot),
            size: self.size.machine.clone(),
            limit: self.config.boot_timeout,
            state: self.state,
            sysctls: self.pod.sysctls.clone(),
            configuration,
        })
    }
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
