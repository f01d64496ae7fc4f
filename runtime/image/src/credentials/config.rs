//! `config.json` as Docker and Podman write it.
//!
//! For a repository of a registry these count, in this order:
//! 1. the program of `credHelpers` for the registry;
//! 2. entries of `auths`, that with the longest path above the repository first, as Podman and
//!    kubelet choose;
//! 3. the program of `credsStore`.
//!
//! Docker asks the last one first. Here an entry that has credentials is more particular than a
//! program for all registries.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::{AuthConfig, Credentials, CredentialsError, Program, ProgramError, host_of};
use crate::reference::DEFAULT_DOMAIN;
use crate::secret::Secret;
use crate::text::place;

/// Most bytes of a file.
const MAX_BYTES: u64 = 4 << 20;

/// Docker's key for its own registry, by which programs know it too.
const DEFAULT_KEY: &str = "https://index.docker.io/v1/";

/// Credentials of several registries.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct DockerConfig {
    auths: Option<BTreeMap<String, Option<AuthConfig>>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

/// Where credentials may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// They are written in the file.
    Stored(Credentials),
    /// A program may know them.
    Program {
        /// The program.
        program: Program,
        /// What it knows the registry by.
        server: String,
    },
}

/// What a search for credentials came to.
#[derive(Debug, Default)]
pub struct Found {
    /// The first credentials that there were.
    pub credentials: Option<Credentials>,
    /// Programs that failed before. Without credentials they may be why a registry refuses.
    pub failures: Vec<ProgramError>,
}

impl DockerConfig {
    /// Parses the text of a file. An empty one has no credentials.
    ///
    /// # Errors
    /// [`CredentialsError::Json`], which says where.
    pub fn parse(text: &[u8]) -> Result<Self, CredentialsError> {
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(text)
            .map_err(|error| CredentialsError::Json { place: place(&error) })
    }

    /// Reads a file; one that does not exist has no credentials.
    ///
    /// # Errors
    /// [`CredentialsError`] names the file, or what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, CredentialsError> {
        let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        match File::open(path) {
            Ok(file) => file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(failed(source)),
        };
        let text = Secret::new(text);
        if text.expose().len() as u64 > MAX_BYTES {
            let large = format!("more than {MAX_BYTES} bytes");
            return Err(failed(std::io::Error::new(ErrorKind::FileTooLarge, large)));
        }
        Self::parse(text.expose().as_bytes())
    }

    /// Where credentials for a server's repository may be, the best first. `server` is the host that
    /// is asked, which may be another registry's mirror.
    ///
    /// # Errors
    /// [`CredentialsError`] if an entry for this repository can't be used. Others are not looked at.
    pub fn sources(&self, server: &str, repository: &str) -> Result<Vec<Source>, CredentialsError> {
        let registry = host_of(server);
        let known_as = || {
            let own = registry == DEFAULT_DOMAIN;
            if own { DEFAULT_KEY.to_owned() } else { registry.clone() }
        };
        let program = |name: &str| {
            Program::named(name).map(|program| Source::Program { program, server: known_as() })
        };
        let mut sources = Vec::new();
        let helpers = self.helpers.iter().flatten();
        let mut helpers =
            helpers.filter(|(key, name)| host_of(key) == registry && !name.is_empty());
        if let Some((_, name)) = helpers.next() {
            sources.push(program(name)?);
        }
        let whole = format!("{registry}/{repository}");
        for (key, entry) in self.entries(&whole) {
            sources.extend(entry.stored(key)?.map(Source::Stored));
        }
        if let Some(name) = self.store.as_deref().filter(|name| !name.is_empty()) {
            sources.push(program(name)?);
        }
        Ok(sources)
    }

    /// The entries for a repository, that with the longest path first. Among equals those whose keys
    /// are written without a scheme come first.
    fn entries(&self, repository: &str) -> Vec<(&str, &AuthConfig)> {
        let all = self.auths.iter().flatten();
        let mut found: Vec<_> = all
            .filter_map(|(key, entry)| Some((place_of(key), key.as_str(), entry.as_ref()?)))
            .filter(|(place, ..)| is_below(repository, place))
            .collect();
        found.sort_by_key(|(place, key, _)| (usize::MAX - place.len(), key.contains("://")));
        found.into_iter().map(|(_, key, entry)| (key, entry)).collect()
    }

    /// Looks for credentials for a server's repository. Each program is given `deadline` to answer.
    ///
    /// # Errors
    /// As [`DockerConfig::sources`].
    pub async fn find(
        &self,
        server: &str,
        repository: &str,
        deadline: Duration,
    ) -> Result<Found, CredentialsError> {
        let mut found = Found::default();
        for source in self.sources(server, repository)? {
            let answer = match source {
                Source::Stored(credentials) => Ok(Some(credentials)),
                Source::Program { program, server } => program.get(&server, deadline).await,
            };
            match answer {
                Ok(None) => {}
                Ok(credentials) => {
                    found.credentials = credentials;
                    break;
                }
                Err(error) => found.failures.push(error),
            }
        }
        Ok(found)
    }
}

/// The host and path that a key of `auths` stands for. The version of the API in a URL does not
/// count.
fn place_of(key: &str) -> String {
    let host = host_of(key);
    let without_scheme = key.split_once("://").map_or(key, |(_, rest)| rest);
    let path = without_scheme.split_once('/').map_or("", |(_, path)| path).trim_matches('/');
    let path = match path.split_once('/').unwrap_or((path, "")) {
        ("v1" | "v2", rest) => rest,
        _ => path,
    };
    if path.is_empty() { host } else { format!("{host}/{path}") }
}

/// Whether a repository is at a place or below it.
fn is_below(repository: &str, place: &str) -> bool {
    repository.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
