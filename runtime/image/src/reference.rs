//! Names of images, as containerd and Docker read them (github.com/distribution/reference v0.6.0,
//! `ParseDockerRef`).
//!
//! ```text
//! reference := [host [":" port] "/"] component {"/" component} [":" tag] ["@" digest]
//! ```
//! A name without a registry is of `docker.io`, one without a folder there of `library`, and one
//! without tag and digest has the tag `latest`. Of a tag and a digest the digest counts.

mod grammar;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};
use crate::text::quoted;

/// The registry of names that say none. Its server is called otherwise.
pub const DEFAULT_DOMAIN: &str = "docker.io";

/// Docker's first name of that registry, which names and credentials still use.
pub const LEGACY_DOMAIN: &str = "index.docker.io";

/// Most characters of a repository's name without its registry.
pub const MAX_PATH: usize = 255;

/// Most characters of a registry's host: no name in DNS is longer.
pub const MAX_HOST: usize = 255;

const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// A name that can't be read: says the name, what is wrong, and how to write it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image reference {input}: {problem}")]
pub struct ReferenceError {
    /// The name, shortened.
    pub input: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a name. Texts are quoted and short.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing is written.
    #[error("it is empty: write a name such as docker.io/library/busybox:latest")]
    Empty,
    /// An image's id in place of a name.
    #[error("64 hexadecimal digits are an image's id, not a name: write NAME@sha256:DIGITS")]
    Identifier,
    /// A URL in place of a name.
    #[error("a name has no scheme: leave out what stands before the host")]
    Url,
    /// The part before the first slash is no host.
    #[error(
        "{0} is no registry's host: write letters, digits, '-' and '.', or an IPv6 address \
         in brackets, and the port after ':'"
    )]
    Host(String),
    /// A port out of its range.
    #[error("{0} is no port: write a number up to 65535")]
    Port(String),
    /// A repository with capital letters.
    #[error("the repository {0} has capital letters: write it in lower case")]
    Uppercase(String),
    /// A part between slashes that is none.
    #[error(
        "{0} can't be a part of a repository's name: write lower-case letters and digits, \
         joined by '.', '_', '__' or '-'"
    )]
    Component(String),
    /// A part that is too long.
    #[error("the {part} has {length} characters, and at most {limit} are possible")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its length.
        length: usize,
        /// The longest possible.
        limit: usize,
    },
    /// No tag.
    #[error(
        "{0} is no tag: write up to 128 letters, digits, '_', '.' and '-', \
         the first a letter, a digit or '_'"
    )]
    Tag(String),
    /// No digest.
    #[error("{0}")]
    Digest(#[from] DigestError),
}

/// Which of a repository's images is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The one that the registry calls so today.
    Tag(String),
    /// The one with that content, for ever.
    Digest(Digest),
}

/// The whole name of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    object: Object,
}

impl Reference {
    /// The registry: a host with a port if one is written. An IPv6 address is in brackets.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within its registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Registry and repository.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Which of the repository's images is meant.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The tag, if the image is named by one.
    pub fn tag(&self) -> Option<&str> {
        match &self.object {
            Object::Tag(tag) => Some(tag),
            Object::Digest(_) => None,
        }
    }

    /// The digest, if the image is named by one.
    pub fn digest(&self) -> Option<&Digest> {
        match &self.object {
            Object::Tag(_) => None,
            Object::Digest(digest) => Some(digest),
        }
    }

    /// The image of that content in the same repository.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { object: Object::Digest(digest), ..self.clone() }
    }

    /// The short form that people type, without `docker.io` and `library`. Where the short form
    /// would be read as another image it is the whole name, unlike Docker's.
    pub fn familiar(&self) -> String {
        let whole = self.to_string();
        if self.domain != DEFAULT_DOMAIN {
            return whole;
        }
        let short = whole.split_once('/').map_or("", |(_, rest)| rest);
        let official = short.strip_prefix(OFFICIAL).unwrap_or_default();
        let same = |name: &&str| name.parse::<Self>().is_ok_and(|read| read == *self);
        [official, short].into_iter().find(same).map_or(whole.clone(), str::to_owned)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.domain, self.path)?;
        match &self.object {
            Object::Tag(tag) => write!(formatter, ":{tag}"),
            Object::Digest(digest) => write!(formatter, "@{digest}"),
        }
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|problem| ReferenceError { input: quoted(text), problem })
    }
}

/// What a user may write to name an image that is here: its id, or a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// The digest of the image's configuration, with or without `sha256:`.
    Id(Digest),
    /// A reference.
    Reference(Reference),
}

impl FromStr for ImageName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let id = text.parse().or_else(|_| format!("sha256:{text}").parse());
        id.map_or_else(|_| text.parse().map(Self::Reference), |id| Ok(Self::Id(id)))
    }
}

fn parse(text: &str) -> Result<Reference, Problem> {
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if grammar::is_identifier(text) {
        return Err(Problem::Identifier);
    }
    let (domain, rest) = split_domain(text);
    if rest.starts_with("//") || domain.ends_with(':') {
        return Err(Problem::Url);
    }
    let (named, digest) = match rest.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (rest, None),
    };
    let (path, tag) = match named.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (named, None),
    };
    grammar::check_host(domain)?;
    let official = domain == DEFAULT_DOMAIN && !path.contains('/');
    let path = if official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
    grammar::check_path(&path)?;
    if let Some(tag) = tag.filter(|tag| !grammar::is_tag(tag)) {
        return Err(Problem::Tag(quoted(tag)));
    }
    let object = match digest {
        Some(digest) => Object::Digest(digest.parse()?),
        None => Object::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()),
    };
    Ok(Reference { domain: domain.to_owned(), path, object })
}

/// Parts a name into its registry and the rest. What stands before the first slash is a registry
/// if it can't be a folder of the default one.
fn split_domain(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((LEGACY_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest)) if grammar::looks_like_host(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    }
}

#[cfg(test)]
mod tests;
