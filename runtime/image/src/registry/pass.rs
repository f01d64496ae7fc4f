//! What is shown to a server of who asks: a header `Authorization`, which is kept for the pull.
//!
//! A server that wants one says so in a refusal. One task then gets it, and all others that were
//! refused wait for that. The state is the server's, and a pull has one repository, so a token is
//! never used for another one.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::Url;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::fault::Fault;
use super::wire::{self, Wire};
use super::{Pull, answer};
use crate::challenge::token::{MAX_ANSWER_BYTES, Token, TokenRequest, tries_next};
use crate::challenge::{Challenge, ChallengeError, Reply, pull_scope};
use crate::credentials::{CredentialsError, Found};
use crate::secret::Secret;

const FORM: &str = "application/x-www-form-urlencoded";

/// What is shown to a server.
#[derive(Debug, Default)]
pub(super) struct Passes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How often there was an answer to its question.
    serial: u64,
    held: Option<Held>,
    /// Why the last question has no answer.
    refused: Option<Fault>,
    /// The last question.
    challenge: Option<Challenge>,
}

#[derive(Debug, Clone)]
struct Held {
    authorization: Secret,
    until: Option<Instant>,
}

/// What one request shows.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    serial: u64,
    authorization: Option<Secret>,
}

impl Pass {
    /// The header `Authorization`. None: the request shows nothing.
    pub(super) fn authorization(&self) -> Option<&Secret> {
        self.authorization.as_ref()
    }
}

impl State {
    fn pass(&self) -> Pass {
        let fresh = |held: &&Held| held.until.is_none_or(|until| Instant::now() < until);
        let authorization = self.held.as_ref().filter(fresh).map(|held| held.authorization.clone());
        Pass { serial: self.serial, authorization }
    }
}

impl Passes {
    /// What the next request is to show. Waits while it is being renewed.
    pub(super) async fn current(&self) -> Pass {
        self.0.lock().await.pass()
    }

    /// What a request is to show that was refused with `seen`. Of many such requests one gets it.
    pub(super) async fn renew(
        &self,
        pull: &Pull,
        wire: &Wire,
        seen: &Pass,
        headers: &HeaderMap,
    ) -> Result<Pass, Fault> {
        let mut state = self.0.lock().await;
        if state.serial == seen.serial {
            let challenge = match (&state.challenge, headers.contains_key(WWW_AUTHENTICATE)) {
                (Some(known), false) => Ok(known.clone()),
                _ => Challenge::strongest(headers).map_err(denied),
            };
            let got = match &challenge {
                Ok(challenge) => obtain(pull, wire, challenge).await,
                Err(fault) => Err(fault.clone()),
            };
            state.serial += 1;
            state.challenge = challenge.ok();
            (state.held, state.refused) = match got {
                Ok(held) => (Some(held), None),
                Err(fault) => (None, Some(fault)),
            };
        }
        match &state.refused {
            Some(fault) => Err(fault.clone()),
            None => Ok(state.pass()),
        }
    }
}

fn denied(error: ChallengeError) -> Fault {
    Fault::Denied(error.to_string())
}

async fn obtain(pull: &Pull, wire: &Wire, challenge: &Challenge) -> Result<Held, Fault> {
    let server = &wire.endpoint.host;
    let found = pull.login.find(server, pull.reference.path(), pull.patience.program).await;
    let found = found.map_err(|error: CredentialsError| Fault::Setup(error.to_string()))?;
    let held = answer_of(pull, wire, challenge, &found).await;
    // A helper that failed may be why there is nothing to show.
    let failed = found.failures.iter().map(|failure| format!("; {failure}")).collect::<String>();
    held.map_err(|fault| match fault {
        Fault::Denied(text) => Fault::Denied(text + &failed),
        other => other,
    })
}

async fn answer_of(
    pull: &Pull,
    wire: &Wire,
    challenge: &Challenge,
    found: &Found,
) -> Result<Held, Fault> {
    let scope = pull_scope(&pull.reference);
    let reply = challenge.reply(wire.transport(), &scope, found.credentials.as_ref());
    let requests = match reply.map_err(denied)? {
        Reply::Authorization(authorization) => return Ok(Held { authorization, until: None }),
        Reply::Ask(requests) => requests,
    };
    let mut fault = Fault::Denied("it names no way to get a token".to_owned());
    for request in requests {
        match fetch(pull, wire, &request).await {
            Ok(token) => {
                let until = Instant::now().checked_add(token.good_for(SystemTime::now()));
                return Ok(Held { authorization: token.authorization(), until });
            }
            Err(failed) => {
                let next = matches!(&failed, Fault::Tokens { fault, .. }
                    if matches!(**fault, Fault::Status { status, .. } if tries_next(status)));
                fault = failed;
                if !next {
                    break;
                }
            }
        }
    }
    Err(fault)
}

/// Asks for a token. No redirect is followed: the request may have a password.
async fn fetch(pull: &Pull, wire: &Wire, request: &TokenRequest) -> Result<Token, Fault> {
    let url: Url = request.url.parse().map_err(|_| {
        Fault::Denied("the server that gives out its tokens has no address".to_owned())
    })?;
    let named = url.host_str().unwrap_or_default().to_owned();
    let failed = |fault| Fault::Tokens { host: named.clone(), fault: Box::new(fault) };
    let client = wire.client(&pull.patience).await?;
    let mut builder = match &request.form {
        Some(form) => client.post(url).header(CONTENT_TYPE, FORM).body(form.expose().to_owned()),
        None => client.get(url),
    };
    if let Some(secret) = &request.authorization {
        builder = builder.header(AUTHORIZATION, wire::header(secret)?);
    }
    let response = wire::exchange(&pull.patience, builder).await.map_err(failed)?;
    let status = response.status().as_u16();
    let wait = answer::retry_after(response.headers(), SystemTime::now());
    let body = wire::read(&pull.patience, response, MAX_ANSWER_BYTES).await.map_err(failed)?;
    match status {
        200..=299 => Token::parse(&body.bytes).map_err(|error| Fault::Denied(error.to_string())),
        301 | 302 | 303 | 307 | 308 => {
            Err(failed(Fault::Redirect("it may have a password".to_owned())))
        }
        status => {
            Err(failed(Fault::Status { status, words: String::new(), wait, elsewhere: false }))
        }
    }
}
