//! How a registry wants to be asked: its header `WWW-Authenticate` (RFC 9110 §11.6.1), and what
//! to do about it.
//!
//! `Basic` is answered by a header. `Bearer` names a server that gives out tokens (distribution
//! specification, "Token Authentication"): [`token`] builds the requests for one and reads the
//! answer.

mod header;
pub mod token;

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

use crate::credentials::Credentials;
use crate::hosts::Transport;
use crate::reference::Reference;
use crate::secret::Secret;
use crate::text::line;
use token::{Question, TokenRequest};

/// Most bytes of a header, and most challenges and parameters that are read.
const MAX_HEADER: usize = 8 << 10;
const MAX_CHALLENGES: usize = 16;
const MAX_PARAMETERS: usize = 32;

/// Most characters of a registry's word for an error.
const MAX_ERROR: usize = 64;

/// A challenge that can't be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// Too long to be read.
    #[error("the registry's challenge has {0} bytes, and at most {MAX_HEADER} are read")]
    TooLong(usize),
    /// Nothing that is known here.
    #[error("the registry asks for credentials in no way that is known: {0}")]
    Unknown(String),
    /// The registry wants to know who asks.
    #[error("the registry asks for a user and a password, and {0}")]
    NoPassword(&'static str),
    /// The server of tokens can't be asked.
    #[error("the registry names no server that gives out tokens: {0}")]
    Realm(String),
    /// Credentials or tokens would be sent in the clear.
    #[error(
        "the registry has its tokens given out at {0}, where anybody could read them: let it name \
         an address with https://"
    )]
    Clear(String),
}

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A user and a password with each request.
    Basic,
    /// A token with each request.
    Bearer(Bearer),
}

/// Where tokens are given out, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The address of the server that gives them out.
    pub realm: String,
    /// What that server calls the registry.
    pub service: Option<String>,
    /// What the request was for.
    pub scopes: Vec<String>,
    /// What was wrong with the token that the request had.
    pub error: Option<String>,
}

/// How to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Send the request again with this header `Authorization`.
    Authorization(Secret),
    /// Get a token first. If a request is refused as [`token::tries_next`] says, try the next one.
    Ask(Vec<TokenRequest>),
}

impl Challenge {
    /// The challenge to meet, of those in a refusal's headers: a token is better than a password.
    ///
    /// # Errors
    /// [`ChallengeError`] if there is none that can be met.
    pub fn strongest(headers: &HeaderMap) -> Result<Self, ChallengeError> {
        let mut found = Vec::new();
        for value in headers.get_all(WWW_AUTHENTICATE) {
            // Challenges are ASCII: the rest of such a header means nothing.
            let text = value.to_str().unwrap_or_default();
            let room = MAX_CHALLENGES.saturating_sub(found.len());
            found.extend(header::parse(text)?.into_iter().take(room));
        }
        let mut schemes = Vec::new();
        let mut basic = false;
        for challenge in found {
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                return Ok(Self::Bearer(Bearer::new(&challenge)));
            }
            basic |= challenge.scheme.eq_ignore_ascii_case("basic");
            schemes.push(line(challenge.scheme, MAX_ERROR));
        }
        match (basic, schemes.is_empty()) {
            (true, _) => Ok(Self::Basic),
            (false, true) => Err(ChallengeError::Unknown("it says none".to_owned())),
            (false, false) => Err(ChallengeError::Unknown(schemes.join(", "))),
        }
    }

    /// How to meet the challenge. `transport` is how the registry was asked, and `scope` what for:
    /// see [`pull_scope`].
    ///
    /// # Errors
    /// [`ChallengeError`] if it can't be met, or would give credentials away.
    pub fn reply(
        &self,
        transport: Transport,
        scope: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Reply, ChallengeError> {
        let header = credentials.and_then(Credentials::authorization);
        match (self, credentials) {
            // The registry's own token, whoever gave it out.
            (_, Some(Credentials::RegistryToken(_))) | (Self::Basic, Some(_)) => {
                let other = "there is an identity token only";
                header.map(Reply::Authorization).ok_or(ChallengeError::NoPassword(other))
            }
            (Self::Basic, None) => Err(ChallengeError::NoPassword("there are none")),
            (Self::Bearer(bearer), credentials) => {
                let question = Question { bearer, transport, scope };
                question.requests(credentials).map(Reply::Ask)
            }
        }
    }
}

impl Bearer {
    fn new(challenge: &header::Parsed<'_>) -> Self {
        let scopes = challenge.parameter("scope").unwrap_or_default();
        let scopes = scopes.split_ascii_whitespace().take(MAX_PARAMETERS).map(str::to_owned);
        Self {
            realm: challenge.parameter("realm").unwrap_or_default().to_owned(),
            service: challenge.parameter("service").map(str::to_owned),
            scopes: scopes.collect(),
            error: challenge.parameter("error").map(|error| line(error, MAX_ERROR)),
        }
    }
}

/// What a pull of a reference's image asks a registry for.
pub fn pull_scope(reference: &Reference) -> String {
    format!("repository:{}:pull", reference.path())
}

#[cfg(test)]
mod tests;
