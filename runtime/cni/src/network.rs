//! The node's network: the configuration of its directory, kept up to date, and whether pods can be
//! attached.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::conf::{Candidate, Conf, candidates};
use crate::error::Error;
use crate::invoke::Plugins;
use crate::text::printable;
use crate::watch::Watch;

/// How long an answer of plugins about their readiness is believed. Kubelet asks every 5 seconds,
/// and several clients may do so at once.
const FRESH: Duration = Duration::from_secs(1);

/// How long one plugin may take to say whether it is ready: the caller answers kubelet.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// How often the directory is looked at if the kernel gives no news of it.
const WITHOUT_NEWS: Duration = Duration::from_secs(5);

/// The network that new pods are attached to.
#[derive(Debug)]
pub struct NodeNetwork {
    directory: PathBuf,
    plugins: Plugins,
    loaded: watch::Sender<Loaded>,
    asked: Mutex<Option<Asked>>,
    fresh: Duration,
}

/// What the directory holds.
#[derive(Debug, Clone, Default)]
struct Loaded {
    /// The configuration that is used.
    conf: Option<Arc<Conf>>,
    /// Why it is not another one, or why there is none.
    problem: Option<String>,
    /// Whether there is no file, not even one that can't be read.
    is_empty: bool,
}

/// What plugins of a configuration said about their readiness, and when.
#[derive(Debug)]
struct Asked {
    conf: Arc<Conf>,
    at: Instant,
    readiness: Readiness,
}

/// Whether pods can be attached, as CRI's condition `NetworkReady` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether they can.
    pub is_ready: bool,
    /// One word for machines; empty if all is well.
    pub reason: &'static str,
    /// Why not, or what is wrong all the same. Empty if all is well.
    pub message: String,
}

impl NodeNetwork {
    /// Reads the configuration in `directory`, which need not be there.
    pub fn open(directory: PathBuf, plugins: Plugins) -> Self {
        let network = Self {
            directory,
            plugins,
            loaded: watch::Sender::new(Loaded::default()),
            asked: Mutex::new(None),
            fresh: FRESH,
        };
        network.load();
        network
    }

    /// The plugins.
    pub fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// The configuration for a new pod.
    ///
    /// # Errors
    /// [`Error::NotInitialized`] with the directory.
    pub fn conf(&self) -> Result<Arc<Conf>, Error> {
        let loaded = self.loaded.borrow();
        let missing = || Error::NotInitialized(loaded.problem.clone().unwrap_or_default());
        loaded.conf.clone().ok_or_else(missing)
    }

    /// Whether the directory has no configuration, not even one that can't be read: nobody wants a
    /// network by CNI here, or not yet.
    pub fn is_empty(&self) -> bool {
        self.loaded.borrow().is_empty
    }

    /// Whether pods can be attached now. Plugins are asked at most once a second.
    pub async fn readiness(&self) -> Readiness {
        let conf = match self.conf() {
            Ok(conf) => conf,
            Err(error) => return Readiness::not(&error),
        };
        let mut asked = self.asked.lock().await;
        let is_fresh =
            |asked: &&Asked| Arc::ptr_eq(&asked.conf, &conf) && asked.at.elapsed() < self.fresh;
        let known = asked.as_ref().filter(is_fresh).map(|asked| asked.readiness.clone());
        let mut readiness = match known {
            Some(readiness) => readiness,
            None => {
                let said = self.plugins.within(STATUS_LIMIT).status(&conf).await;
                let readiness =
                    said.map_or_else(|error| Readiness::not(&error), |()| Readiness::yes());
                let (at, kept) = (Instant::now(), readiness.clone());
                *asked = Some(Asked { conf, at, readiness: kept });
                readiness
            }
        };
        if readiness.message.is_empty() {
            readiness.message = self.loaded.borrow().problem.clone().unwrap_or_default();
        }
        readiness
    }

    /// Waits until another configuration is used, or none.
    pub async fn changed(&self) {
        let mut news = self.loaded.subscribe();
        news.mark_unchanged();
        // The sender lives as long as this value.
        let _sender_lives = news.changed().await;
    }

    /// Follows the directory, for ever: it is to run beside all else. A configuration that can't be
    /// read does not replace the one that is used.
    pub async fn follow(&self) {
        loop {
            let watch = Watch::new(&self.directory);
            self.load();
            let news = match watch {
                Ok(mut watch) => watch.changed().await,
                Err(error) => Err(error),
            };
            if let Err(error) = news {
                let seconds = WITHOUT_NEWS.as_secs();
                log::warn!(
                    "watching {}: {error}: looking at it every {seconds} s",
                    self.directory.display()
                );
                tokio::time::sleep(WITHOUT_NEWS).await;
            }
        }
    }

    fn load(&self) {
        let found = candidates(&self.directory);
        let update = |loaded: &mut Loaded| {
            let next = choose(&self.directory, found, loaded.conf.as_ref());
            if next.problem != loaded.problem {
                let problem = next.problem.as_deref().unwrap_or("its configuration is well again");
                log::warn!("network of {}: {problem}", self.directory.display());
            }
            let same_conf = next.conf == loaded.conf;
            let is_news = !same_conf || next.problem != loaded.problem;
            loaded.is_empty = next.is_empty;
            // An equal one is kept: what its plugins said stays known.
            loaded.problem = next.problem;
            if !same_conf {
                loaded.conf = next.conf;
            }
            is_news
        };
        self.loaded.send_if_modified(update);
    }
}

/// Which configuration is used, after `used`: the first that can be read. If the file of `used` is
/// there and can't be read any more, or if no file can be read, then it stays.
fn choose(
    directory: &Path,
    found: Result<Vec<Candidate>, Error>,
    used: Option<&Arc<Conf>>,
) -> Loaded {
    let kept = |error: &Error| {
        let problem = Some(error.whole());
        Loaded { conf: used.cloned(), problem, is_empty: false }
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => return kept(&error),
    };
    let mut first_error = None;
    for candidate in found {
        let error = match candidate.conf {
            Ok(conf) => {
                let problem = first_error.as_ref().map(Error::whole);
                return Loaded { conf: Some(Arc::new(conf)), problem, is_empty: false };
            }
            Err(error) => error,
        };
        if used.is_some_and(|used| used.path() == candidate.path) {
            return kept(&error);
        }
        first_error.get_or_insert(error);
    }
    match first_error {
        Some(error) => kept(&error),
        None => {
            let problem = format!("no network configuration in {}", directory.display());
            Loaded { conf: None, problem: Some(problem), is_empty: true }
        }
    }
}

impl Readiness {
    fn yes() -> Self {
        Self { is_ready: true, reason: "", message: String::new() }
    }

    fn not(error: &Error) -> Self {
        let message = printable(&error.whole());
        Self { is_ready: false, reason: "NetworkPluginNotReady", message }
    }
}

#[cfg(test)]
mod tests;
