//! What proves to a registry that the asker may pull.
//!
//! kubelet sends credentials with a pull ([`AuthConfig`]). Without those the node's own count: a
//! `config.json` as Docker and Podman write it ([`DockerConfig`]), which may name programs that
//! know more ([`Program`]). Nothing here prints a secret, or repeats it in an error.

mod config;
mod program;

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use crate::reference::{DEFAULT_DOMAIN, LEGACY_DOMAIN};
use crate::secret::Secret;
use crate::text::quoted;

pub use config::{DockerConfig, Found, Source};
pub use program::{Program, ProgramError};

/// Base64 with padding, or without, as some tools write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file that could not be read.
    #[error("reading credentials {path}")]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not the JSON that it should be.
    #[error("the credentials are not the JSON of Docker's config.json: {place}")]
    Json {
        /// Line and column.
        place: String,
    },
    /// The field `auth` is something else.
    #[error("the field \"auth\" for {server} is not base64 of \"user:password\"")]
    Auth {
        /// Whose credentials, quoted.
        server: String,
    },
    /// A user's name that can't be sent.
    #[error("the user's name for {server} has a colon")]
    User {
        /// Whose credentials, quoted.
        server: String,
    },
    /// A helper that can't be one.
    #[error("{0} is no credential helper's name: write what follows \"docker-credential-\"")]
    Program(String),
}

/// What is shown to a registry, or to the server that gives out its tokens.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// What OAuth 2 calls a refresh token: it is exchanged for a token.
    IdentityToken(Secret),
    /// A token for the registry itself.
    RegistryToken(Secret),
}

impl Credentials {
    /// The header `Authorization` that shows them without a question before. An identity token is
    /// never sent so.
    pub fn authorization(&self) -> Option<Secret> {
        match self {
            Self::Password { user, password } => {
                let pair = Secret::new(format!("{user}:{}", password.expose()));
                Some(Secret::new(format!("Basic {}", BASE64.encode(pair.expose()))))
            }
            Self::RegistryToken(token) => Some(Secret::new(format!("Bearer {}", token.expose()))),
            Self::IdentityToken(_) => None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Password { .. } => "Password(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
            Self::RegistryToken(_) => "RegistryToken(…)",
        })
    }
}

/// Credentials of a pull in the fields of CRI's `AuthConfig`, and of an entry of Docker's
/// `config.json`. An empty field is one that is not set.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct AuthConfig {
    /// The user's name.
    pub username: String,
    /// The password.
    #[serde(serialize_with = "Secret::tell")]
    pub password: Secret,
    /// Both in base64, with a colon between.
    #[serde(serialize_with = "Secret::tell")]
    pub auth: Secret,
    /// The server that they are for: a host, or a URL.
    #[serde(rename = "serveraddress")]
    pub server_address: String,
    /// A refresh token.
    #[serde(rename = "identitytoken", serialize_with = "Secret::tell")]
    pub identity_token: Secret,
    /// A token for the registry itself.
    #[serde(rename = "registrytoken", serialize_with = "Secret::tell")]
    pub registry_token: Secret,
}

impl AuthConfig {
    /// The credentials that a pull's request gives for a server, in containerd's order
    /// (`ParseAuth`): user and password, identity token, `auth`. A registry token comes last;
    /// containerd does not know it. None: they are for another server, or there are none.
    ///
    /// `server` is the host that is asked, such as `registry-1.docker.io`, or a mirror. Docker's
    /// names for that registry are one, which containerd does not know. As with containerd,
    /// credentials without a server are for every server that is asked.
    ///
    /// # Errors
    /// [`CredentialsError`] if they are for this server and can't be used.
    pub fn for_server(&self, server: &str) -> Result<Option<Credentials>, CredentialsError> {
        let of = &self.server_address;
        if !of.is_empty() && host_of(of) != host_of(server) {
            return Ok(None);
        }
        if !self.username.is_empty() {
            return self.named_user(server).map(Some);
        }
        if !self.identity_token.is_empty() {
            return Ok(Some(Credentials::IdentityToken(self.identity_token.clone())));
        }
        self.rest(server)
    }

    /// The credentials of an entry of a `config.json`. There an identity token is what the user
    /// was given for the password, which is sometimes a placeholder then.
    fn stored(&self, server: &str) -> Result<Option<Credentials>, CredentialsError> {
        if !self.identity_token.is_empty() {
            return Ok(Some(Credentials::IdentityToken(self.identity_token.clone())));
        }
        match self.rest(server)? {
            None if !self.username.is_empty() => self.named_user(server).map(Some),
            found => Ok(found),
        }
    }

    fn named_user(&self, server: &str) -> Result<Credentials, CredentialsError> {
        let (user, password) = (self.username.clone(), self.password.clone());
        password_of(user, password, server)
    }

    fn rest(&self, server: &str) -> Result<Option<Credentials>, CredentialsError> {
        if !self.auth.is_empty() {
            let wrong = || CredentialsError::Auth { server: quoted(server) };
            let (user, password) = decode(&self.auth).ok_or_else(wrong)?;
            return password_of(user, password, server).map(Some);
        }
        let token = Some(&self.registry_token).filter(|token| !token.is_empty());
        Ok(token.cloned().map(Credentials::RegistryToken))
    }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AuthConfig(…)")
    }
}

fn password_of(
    user: String,
    password: Secret,
    server: &str,
) -> Result<Credentials, CredentialsError> {
    // HTTP's basic scheme ends the name at the first colon.
    if user.contains(':') {
        return Err(CredentialsError::User { server: quoted(server) });
    }
    Ok(Credentials::Password { user, password })
}

/// User and password of the field `auth`. Line breaks do not count, nor do zeros around the
/// password, which some tools pad it with.
fn decode(auth: &Secret) -> Option<(String, Secret)> {
    let text: String = auth.expose().chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let decoded = String::from_utf8(BASE64.decode(Secret::new(text).expose()).ok()?).ok()?;
    let decoded = Secret::new(decoded);
    let (user, password) = decoded.expose().split_once(':')?;
    Some((user.to_owned(), Secret::new(password.trim_matches('\0'))))
}

/// The host, and the port if one is written, of a host or a URL. Docker's names for its registry
/// become one.
fn host_of(address: &str) -> String {
    let without_scheme = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = without_scheme.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match host.as_str() {
        LEGACY_DOMAIN | "registry-1.docker.io" => DEFAULT_DOMAIN.to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests;
