//! Trying a template: a clone of it that nobody else has does what every clone does. Its guest runs a
//! container, and is configured. What it has written of its memory by then, all clones will write.

use std::sync::Arc;
use std::time::Duration;

use api::Error;
use host::Config;
use host::mounts::Share;
use host::store::StateDir;
use machine::guest::Guest;
use machine::{Boot, From, Launch, Machine, SHARE_WINDOW, configuration};
use vmm_api::pages::Run;

use crate::cgroup;
use crate::store::RUN;
use crate::{Lock, Store, Template, TemplateError, written};

/// Part of the time for a boot that a clone may take until its agent answers.
const PART_OF_BOOT: u32 = 4;

/// How long a clone may take until its agent answers.
pub fn limit(config: &Config) -> Duration {
    config.boot_timeout / PART_OF_BOOT
}

/// What a trial has shown.
#[derive(Debug)]
pub struct Tried {
    /// How long the clone's machine took until it ran.
    pub ready_in: Duration,
    /// The pages that it has written.
    pub written: Vec<Run>,
}

/// Starts a clone, and ends it once it has done what clones do. To be called with the lock held.
///
/// # Errors
/// [`TemplateError::Machine`] with what went wrong.
pub async fn try_out(
    store: &Store,
    config: &Config,
    template: Template,
    _lock: &Lock,
) -> Result<Tried, TemplateError> {
    let scratch = store.scratch(&template.key, "try")?;
    let state = StateDir::at(&scratch.join(RUN));
    let tried = run(config, template, &state).await;
    store.clear(&scratch);
    tried.map_err(TemplateError::machine("trying a clone"))
}

async fn run(config: &Config, template: Template, state: &StateDir) -> Result<Tried, Error> {
    let shape = template.record.recipe.shape(1)?;
    let memory = template.memory.metadata();
    let memory = memory.map_err(|error| Error::failed("looking at the template", &error))?;
    let share = state.create().and_then(|_| state.create_share());
    let share = Arc::new(share.map_err(|error| Error::failed("making a share", &error))?);
    let cgroup = cgroup::of_builders()?;
    let from = From::Saved(template.into_saved(config)?);
    let launch = Launch {
        config,
        shape,
        from,
        state,
        share: Arc::clone(&share),
        cgroup: cgroup.as_ref(),
        oom_score_adj: 0,
    };
    let (machine, boot) = machine::launch(launch)?;
    let limit = limit(config);
    let trial = async {
        let ready_in = lives(&machine, boot, &share, state).await?;
        let written = written::pages_of(machine.pid(), &memory);
        let written = written.map_err(|e| Error::failed("looking at what a clone wrote", &e))?;
        Ok(Tried { ready_in, written })
    };
    let spent = machine.patience().limit(limit, trial).await;
    let words = spent.in_words();
    let late = || Err(Error::Unavailable(format!("it has not been configured within {words}")));
    let answered = spent.outcome.unwrap_or_else(late);
    if machine.stop().await.is_err() {
        machine.kill();
    }
    let end = machine.ended().await;
    answered.map_err(|error| match error {
        Error::Disconnected(_) | Error::MachineEnded(_) => Error::MachineEnded(end.reason),
        error => error,
    })
}

async fn lives(
    machine: &Machine,
    boot: Boot,
    share: &Share,
    state: &StateDir,
) -> Result<Duration, Error> {
    machine.boot(boot).await?;
    share.seal().map_err(|error| Error::failed("leaving the host's mounts", &error))?;
    let ready = machine.ready(Duration::MAX).await?;
    let guest = Guest::connect(&state.vsock(), machine.patience().clone()).await?;
    guest.warm().await?;
    let mut configuration = configuration("cuddy-trial", 1)?;
    configuration.share_window = Some(SHARE_WINDOW);
    guest.configure(&configuration).await?;
    Ok(Duration::from_micros(ready))
}
