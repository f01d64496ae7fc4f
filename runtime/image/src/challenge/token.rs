//! Tokens: the requests for one, and the answer.
//!
//! A user and a password go into a request that all servers know, `GET`. containerd tries OAuth 2
//! first (`POST`), which several large registries refuse; here it is the second try, which saves a
//! round trip. An identity token can only be exchanged by `POST`.

use std::time::{Duration, SystemTime};

use form_urlencoded::Serializer;
use http::Uri;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Bearer, ChallengeError};
use crate::credentials::Credentials;
use crate::hosts::Transport;
use crate::redact::redact;
use crate::secret::Secret;
use crate::text::{line, place};

/// Most bytes of a server's answer.
pub const MAX_ANSWER_BYTES: u64 = 256 << 10;

/// How long a token is good if nothing is said, and at least (distribution specification).
pub const MIN_LIFETIME: Duration = Duration::from_secs(60);

/// How long a token is used at most.
pub const MAX_LIFETIME: Duration = Duration::from_hours(24);

/// Most bytes of the address of a server of tokens, and most characters of it in an error.
const MAX_REALM: usize = 2048;
const SHOWN: usize = 200;

/// What this client calls itself.
const CLIENT: &str = "cuddy";

/// A request for a token. Redirects of it must not be followed to another host: it may have
/// credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The whole address.
    pub url: String,
    /// The header `Authorization`.
    pub authorization: Option<Secret>,
    /// The body of a `POST`, as `application/x-www-form-urlencoded`. None: it is a `GET`.
    pub form: Option<Secret>,
}

/// Whether a refusal may mean that the server does not know this form of a request, so that the
/// next one is to be tried.
pub fn tries_next(status: u16) -> bool {
    matches!(status, 400 | 401 | 404 | 405)
}

/// A challenge, and in which situation it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) bearer: &'a Bearer,
    pub(super) transport: Transport,
    pub(super) scope: &'a str,
}

impl Question<'_> {
    /// The requests for a token, in the order in which they are to be tried.
    pub(super) fn requests(
        &self,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<TokenRequest>, ChallengeError> {
        let realm = self.realm()?;
        let get = |authorization| TokenRequest { url: self.url(&realm), authorization, form: None };
        let post = |fields: &[(&str, &str)]| TokenRequest {
            url: realm.to_string(),
            authorization: None,
            form: Some(self.form(fields)),
        };
        Ok(match credentials {
            Some(credentials @ Credentials::Password { user, password }) => {
                let fields = [
                    ("grant_type", "password"),
                    ("username", user),
                    ("password", password.expose()),
                ];
                vec![get(credentials.authorization()), post(&fields)]
            }
            Some(Credentials::IdentityToken(token)) => {
                let fields = [("grant_type", "refresh_token"), ("refresh_token", token.expose())];
                vec![post(&fields)]
            }
            Some(Credentials::RegistryToken(_)) | None => vec![get(None)],
        })
    }

    /// The address of the server, which must be one that can be trusted as much as the registry.
    fn realm(&self) -> Result<Uri, ChallengeError> {
        let text = &self.bearer.realm;
        let refused = |reason: &str| ChallengeError::Realm(reason.to_owned());
        if text.is_empty() || text.len() > MAX_REALM {
            return Err(refused("its address is missing or too long"));
        }
        // What follows a hash sign is not sent.
        let sent = text.split('#').next().unwrap_or_default();
        let uri: Uri = sent.parse().map_err(|_| refused("its address is no URL"))?;
        let host = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(refused("its address has no host, or a user"));
        }
        match (uri.scheme_str(), self.transport) {
            (Some("https"), _) | (Some("http"), Transport::Http) => Ok(uri),
            (Some("http"), Transport::Https) => {
                Err(ChallengeError::Clear(line(&redact(text), SHOWN)))
            }
            _ => Err(refused("its address is neither https:// nor http://")),
        }
    }

    /// All that is asked for, each once. A challenge may name more than this pull needs.
    fn scopes(&self) -> Vec<&str> {
        let mut scopes: Vec<_> = self.bearer.scopes.iter().map(String::as_str).collect();
        scopes.push(self.scope);
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }

    fn url(&self, realm: &Uri) -> String {
        let mut query = Serializer::new(String::new());
        if let Some(service) = self.bearer.service.as_deref().filter(|name| !name.is_empty()) {
            query.append_pair("service", service);
        }
        for scope in self.scopes() {
            query.append_pair("scope", scope);
        }
        let join = if realm.query().is_some() { '&' } else { '?' };
        format!("{realm}{join}{}", query.finish())
    }

    fn form(&self, fields: &[(&str, &str)]) -> Secret {
        let mut form = Serializer::new(String::new());
        form.append_pair("scope", &self.scopes().join(" "));
        form.append_pair("service", self.bearer.service.as_deref().unwrap_or_default());
        form.append_pair("client_id", CLIENT);
        form.extend_pairs(fields);
        Secret::new(form.finish())
    }
}

/// An answer without a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not the JSON that it should be. What is there may be a secret, and is not repeated.
    #[error("the answer of the server that gives out tokens is not valid: {0}")]
    Json(String),
    /// There is none.
    #[error("the server that gives out tokens gave none")]
    Missing,
    /// No header could have it.
    #[error("the server that gives out tokens gave one with characters that no token has")]
    Characters,
}

/// A token for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    token: Secret,
    lifetime: Duration,
    issued: Option<SystemTime>,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<Secret>,
    access_token: Option<Secret>,
    expires_in: Option<f64>,
    issued_at: Option<String>,
}

impl Token {
    /// Parses a server's answer to a request for a token.
    ///
    /// # Errors
    /// [`TokenError`], which repeats nothing of the answer.
    pub fn parse(body: &[u8]) -> Result<Self, TokenError> {
        if body.len() as u64 > MAX_ANSWER_BYTES {
            return Err(TokenError::Json(format!("more than {MAX_ANSWER_BYTES} bytes")));
        }
        let answer: Answer =
            serde_json::from_slice(body).map_err(|error| TokenError::Json(place(&error)))?;
        // Both are the same if a server gives both.
        let tokens = [answer.access_token, answer.token];
        let token = tokens.into_iter().flatten().find(|token| !token.is_empty());
        let token = token.ok_or(TokenError::Missing)?;
        if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Characters);
        }
        let seconds = answer.expires_in.unwrap_or_default();
        let longest = MAX_LIFETIME.as_secs_f64();
        let lifetime = Duration::from_secs_f64(seconds.clamp(MIN_LIFETIME.as_secs_f64(), longest));
        let issued = answer.issued_at.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
        Ok(Self { token, lifetime, issued: issued.map(SystemTime::from) })
    }

    /// The header `Authorization` with the token.
    pub fn authorization(&self) -> Secret {
        Secret::new(format!("Bearer {}", self.token.expose()))
    }

    /// How long the token is good that was received at `now`: 60 s to a day.
    ///
    /// A server may give out one that it made before. That it was made is believed only as far as
    /// its clock and this one can be the same.
    pub fn good_for(&self, now: SystemTime) -> Duration {
        let age = self.issued.and_then(|issued| now.duration_since(issued).ok());
        let rest = self.lifetime.saturating_sub(age.unwrap_or_default());
        rest.max(MIN_LIFETIME)
    }
}
