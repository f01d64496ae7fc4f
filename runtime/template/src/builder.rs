//! Building a template: a machine boots, is warmed, and saved. A clone of it is tried before anybody
//! else can find it. What is built lies in a directory of the builder's own until then.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Error;
use host::Config;
use host::cgroup::Cgroup;
use host::mounts::{Share, open_read_only};
use host::spawn::ChildEnd;
use host::store::StateDir;
use machine::guest::Guest;
use machine::{Boot, From, Launch, Machine};
use vmm_api::KernelDigest;

use crate::cgroup;
use crate::room::{self, Room};
use crate::store::{Draft, MAX_TEMPLATES, now};
use crate::{Key, Lock, Recipe, Record, Store, TemplateError, try_out};

/// What a builder is worth to the host's OOM killer: nothing is lost with it.
const OOM_SCORE_ADJ: i32 = 1000;

/// How often a machine is saved that says it can't be now.
const ATTEMPTS: u32 = 3;

/// What builds one template. It holds the store's lock.
#[derive(Debug)]
pub struct Builder<'a> {
    store: &'a Store,
    config: &'a Config,
    recipe: Recipe,
    key: Key,
    lock: Lock,
    cgroup: Option<Cgroup>,
}

impl<'a> Builder<'a> {
    /// Makes the store ready for a template, and puts this process into the cgroup of builders.
    ///
    /// # Errors
    /// [`TemplateError::Store`] for a store that can't be used.
    pub fn new(
        store: &'a Store,
        config: &'a Config,
        recipe: Recipe,
        lock: Lock,
    ) -> Result<Self, TemplateError> {
        let key = recipe.key()?;
        let cgroup = cgroup::enter().map_err(TemplateError::machine("entering the cgroup"))?;
        store.prepare(&lock)?;
        for stale in store.sweep(&lock)? {
            log::info!("template {stale} is removed: what it was made of has changed");
        }
        Ok(Self { store, config, recipe, key, lock, cgroup })
    }

    /// The template's name.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Builds the template unless it is there. Returns what is written down of it, and whether it
    /// is new.
    ///
    /// # Errors
    /// [`TemplateError`]; nothing is left of the attempt then but a note of why.
    pub async fn build(&self) -> Result<(Record, bool), TemplateError> {
        if let Ok(Some(template)) = self.store.find(&self.recipe) {
            return Ok((template.record, false));
        }
        let built = self.make().await;
        match &built {
            Ok(_) => self.store.forget_failure(&self.key),
            Err(error) => self.store.note_failure(&self.key, &api::error::chain(error)),
        }
        Ok((built?, true))
    }

    async fn make(&self) -> Result<Record, TemplateError> {
        // One that is damaged.
        self.store.remove(&self.key)?;
        self.check_room()?;
        let draft = Draft::new(self.store, &self.key)?;
        let record = self.make_in(&draft).await?;
        let template = self.store.open(&self.key, draft.path())?;
        let template = template.ok_or(TemplateError::Changed)?;
        let tried = try_out(self.store, self.config, template, &self.lock).await?;
        draft.written(&tried.written)?;
        draft.run().step("tried");
        draft.publish()?;
        Ok(record)
    }

    fn check_room(&self) -> Result<(), TemplateError> {
        let count = self.store.list()?.len();
        if count >= MAX_TEMPLATES {
            let text = format!("{count} are there; `cuddy template rm` removes some");
            return Err(TemplateError::NoRoom(text));
        }
        room::check(self.recipe.memory_mib, &Room::of(self.store.path())?)
    }

    async fn make_in(&self, draft: &Draft<'_>) -> Result<Record, TemplateError> {
        let began = Instant::now();
        let inputs = &self.recipe.inputs;
        let kernel = open_read_only(&self.config.kernel).and_then(KernelDigest::of);
        let kernel = kernel.map_err(TemplateError::Inputs)?;
        let booted_in = self.save_machine(draft).await?;
        // Whatever was read, it was read between these two looks.
        if !inputs.hold() {
            return Err(TemplateError::Changed);
        }
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let record = Record {
            recipe: self.recipe.clone(),
            kernel,
            built_unix_s: now(),
            took_ms: micros(began.elapsed()) / 1000,
            booted_in_us: micros(booted_in),
        };
        draft.record(&record)?;
        draft.run().step("recorded");
        Ok(record)
    }

    /// Has a machine boot and be saved. Returns how long its boot took.
    async fn save_machine(&self, draft: &Draft<'_>) -> Result<Duration, TemplateError> {
        let state = draft.run();
        let share = state.create().and_then(|_| state.create_share());
        let share = Arc::new(share.map_err(self.store.failed("making", state.path()))?);
        state.step("build");
        let memory = draft.memory(self.recipe.memory_mib)?;
        let shape = self.recipe.shape(self.recipe.vcpus);
        let launch = Launch {
            config: self.config,
            shape: shape.map_err(TemplateError::machine("shaping the template's machine"))?,
            from: From::KernelToSave { memory: memory.into() },
            state: &state,
            share: Arc::clone(&share),
            cgroup: self.cgroup.as_ref(),
            oom_score_adj: OOM_SCORE_ADJ,
        };
        let launched = machine::launch(launch);
        let (machine, boot) = launched.map_err(TemplateError::machine("starting the machine"))?;
        let work = Work { machine: &machine, state: &state, limit: self.config.boot_timeout };
        let saved = work.limited(work.to_its_end(boot, &share, draft.state()?)).await;
        saved.map_err(|source| self.explain(&machine, source))?;
        Ok(machine.booted_in())
    }

    /// What a machine died of can be that its memory's filesystem is full.
    fn explain(&self, machine: &Machine, source: Error) -> TemplateError {
        /// What a process gets that touches memory which the filesystem has no room for.
        const SIGBUS: i32 = rustix::process::Signal::BUS.as_raw();
        let exit = machine.end().and_then(|end| end.exit);
        match exit {
            Some(ChildEnd::Signal(SIGBUS)) => {
                TemplateError::NoRoom(format!("{} is full", self.store.path().display()))
            }
            _ => TemplateError::Machine { doing: "saving a machine", source },
        }
    }
}

/// A machine on its way to be saved.
struct Work<'a> {
    machine: &'a Machine,
    state: &'a StateDir,
    limit: Duration,
}

impl Work<'_> {
    /// Does it all within the time that a boot may take, of the time that the machine had.
    async fn limited(&self, work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        let spent = self.machine.patience().limit(self.limit, work).await;
        let words = spent.in_words();
        let late = || Err(Error::Unavailable(format!("it was not done within {words}")));
        spent.outcome.unwrap_or_else(late)
    }

    async fn to_its_end(&self, boot: Boot, share: &Share, state: File) -> Result<(), Error> {
        self.machine.boot(boot).await?;
        share.seal().map_err(|error| Error::failed("leaving the host's mounts", &error))?;
        self.machine.ready(self.limit).await?;
        self.state.step("booted");
        let guest = self.connect().await?;
        guest.warm().await?;
        guest.close().await?;
        self.state.step("warm");
        self.save(&state).await?;
        // Only then nobody writes to its memory any more.
        self.machine.ended().await;
        self.state.step("saved");
        Ok(())
    }

    async fn connect(&self) -> Result<Guest, Error> {
        let patience = self.machine.patience().clone();
        let guest = Guest::connect(&self.state.vsock(), patience).await?;
        guest.check().await?;
        Ok(guest)
    }

    /// Saves the machine. Where it still knows a connection, another one is opened and closed: when
    /// that is over, so is what was before.
    async fn save(&self, state: &File) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            self.machine.pause().await?;
            let file = state.try_clone().map_err(|e| Error::failed("saving the machine", &e))?;
            let Err(error) = self.machine.save(file.into()).await else { return Ok(()) };
            if attempt == ATTEMPTS || matches!(error, Error::MachineEnded(_)) {
                return Err(error);
            }
            log::info!("{error}; once more");
            attempt += 1;
            self.machine.resume().await?;
            self.connect().await?.close().await?;
        }
    }
}
