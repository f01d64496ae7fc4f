//! Building templates beside everything else: a process of its own, which belongs to no pod, stands
//! back for all others, and ends by itself.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use host::Config;
use host::capacity::Host;
use host::spawn::Watched;

use crate::{Builder, NotAKey, Recipe, Store, TemplateError, Wish};

/// First word of the command line by which a program becomes a builder. The others are the memory
/// in MiB and, if there is one, the tenant.
pub const VERB: &str = "template";

/// Niceness of a builder.
const NICE: i32 = 10;

/// Whether a template for `recipe` should be built now: there is none, nobody builds, and no
/// attempt has failed lately.
fn is_wanted(store: &Store, recipe: &Recipe) -> bool {
    let Ok(key) = recipe.key() else { return false };
    if let Some(failure) = store.failed_lately(&key) {
        log::info!("no template is built for now: {}", failure.reason);
        return false;
    }
    !store.is_busy() && matches!(store.find(recipe), Ok(None))
}

/// Has a template built for the pods to come by `program`, unless there is a reason not to. To be
/// called in a runtime, which then waits for the program's end.
pub fn ask_for_one(program: io::Result<PathBuf>, store: &Store, recipe: &Recipe, wish: &Wish) {
    if !is_wanted(store, recipe) {
        return;
    }
    let begun = program.and_then(|program| Watched::new(begin(&program, wish)?));
    match begun {
        Ok(builder) => {
            log::info!("process {} builds a template", builder.pid());
            // It goes on without this process, and must not stay as its dead child.
            tokio::spawn(async move { builder.wait().await });
        }
        Err(error) => log::warn!("starting to build a template: {error}"),
    }
}

/// Has `program`, which calls [`run`] for [`VERB`], build a template. It goes on when this process
/// ends, and does not end with it.
///
/// # Errors
/// What the kernel answered.
fn begin(program: &Path, wish: &Wish) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.arg(VERB).arg(wish.memory_mib.to_string()).args(&wish.tenant).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    host::spawn::spawn(command, &[])
}

/// Builds the template that the words after [`VERB`] ask for. If another builder is at work,
/// nothing is to be done.
///
/// # Errors
/// [`TemplateError`]; it is noted in the store as well.
pub fn run(words: impl IntoIterator<Item = String>) -> Result<(), TemplateError> {
    let mut words = words.into_iter();
    let size = words.next().unwrap_or_default();
    let memory_mib = size.parse().map_err(|_| NotAKey(size))?;
    let wish = Wish { memory_mib, tenant: words.next() };
    stand_back();
    let settings =
        |source: api::Error| TemplateError::Machine { doing: "reading settings", source };
    let config = Config::load().map_err(|error| settings(error.into()))?;
    let host = Host::read().map_err(settings)?;
    let recipe = Recipe::of(&config, &wish, host)?.ok_or(TemplateError::Unwanted)?;
    let store = Store::of_node();
    let lock = match store.try_lock() {
        Err(TemplateError::Busy(_)) => return Ok(()),
        lock => lock?,
    };
    let key = recipe.key()?;
    let builder = Builder::new(&store, &config, recipe, lock);
    let builder = builder.inspect_err(|e| store.note_failure(&key, &api::error::chain(e)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(store.failed("starting threads for", store.path()))?;
    runtime.block_on(builder.build()).map(drop)
}

/// Lets all others come first: they need a CPU, or memory, for more than to be faster later.
fn stand_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        log::debug!("standing back: {error}");
    }
    if let Err(error) = host::cgroup::set_oom_score(std::process::id(), 1000) {
        log::debug!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::tests::{HOST, config, wish};

    #[test]
    fn builder_is_wanted_unless_one_is_at_work_or_has_failed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("templates"));
        std::fs::create_dir(store.path()).unwrap();
        let recipe = Recipe::of(&config(dir.path()), &wish(128, None), HOST).unwrap().unwrap();
        assert!(is_wanted(&store, &recipe));
        let lock = store.try_lock().unwrap();
        assert!(!is_wanted(&store, &recipe), "somebody builds");
        drop(lock);
        store.note_failure(&recipe.key().unwrap(), "no room");
        assert!(!is_wanted(&store, &recipe), "it failed a moment ago");
        let other = Recipe { memory_mib: 256, ..recipe };
        assert!(is_wanted(&store, &other));
    }

    #[test]
    fn words_that_ask_for_nothing_are_refused() {
        assert!(matches!(run([]), Err(TemplateError::Name(_))));
        assert!(matches!(run(["much".to_owned()]), Err(TemplateError::Name(_))));
    }
}
