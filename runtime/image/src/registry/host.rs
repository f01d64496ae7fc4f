//! One server that may have the image: its answers, and its questions for credentials.

use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode};
use reqwest::Response;

use super::Pull;
use super::answer::{self, MAX_WORDS_BYTES};
use super::fault::Fault;
use super::pass::Passes;
use super::resolver::Configured;
use super::tls::Authorities;
use super::wire::{self, Reply, Wire};
use crate::digest::Digest;
use crate::hosts::{Endpoint, Transport};
use crate::reference::Reference;

/// What a server is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// What the reference names.
    Manifest(&'a Reference),
    /// Content of the pull's repository.
    Blob(&'a Digest),
}

/// A server that may have the image.
#[derive(Debug)]
pub(super) struct Host {
    wire: Wire,
    passes: Passes,
    /// It can't be reached, or gave something else than it should: others are asked first.
    pub(super) doubtful: AtomicBool,
}

impl Host {
    /// Reads the files that its TLS needs.
    pub(super) fn new(endpoint: Endpoint, names: &Configured, authorities: &Authorities) -> Self {
        let doubtful = AtomicBool::new(false);
        Self { wire: Wire::new(endpoint, names, authorities), passes: Passes::default(), doubtful }
    }

    /// The server as it is configured.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.wire.endpoint
    }

    /// Asks the server, with a proof of who asks if it wants one. The answer is a success.
    pub(super) async fn get(
        &self,
        pull: &Pull,
        wanted: Wanted<'_>,
        headers: &HeaderMap,
    ) -> Result<Response, Fault> {
        let endpoint = self.endpoint();
        let address = |transport: Transport| match wanted {
            Wanted::Manifest(reference) => endpoint.manifest(transport, reference),
            Wanted::Blob(digest) => endpoint.blob(transport, &pull.reference, digest),
        };
        let mut pass = self.passes.current().await;
        let mut renewed = false;
        loop {
            let shown = pass.authorization();
            let reply = self.wire.get(&pull.patience, address, headers, shown).await?;
            let status = reply.response.status();
            if status == StatusCode::OK || status == StatusCode::PARTIAL_CONTENT {
                return Ok(reply.response);
            }
            // Some registries refuse an old token with 403.
            let asks = status == StatusCode::UNAUTHORIZED
                || status == StatusCode::FORBIDDEN && shown.is_some();
            if !asks || renewed || reply.elsewhere {
                return Err(refusal(pull, reply).await);
            }
            renewed = true;
            pass = self.passes.renew(pull, &self.wire, &pass, reply.response.headers()).await?;
        }
    }
}

/// What an answer that is no success means.
async fn refusal(pull: &Pull, reply: Reply) -> Fault {
    let Reply { response, elsewhere } = reply;
    let status = response.status().as_u16();
    let wait = answer::retry_after(response.headers(), SystemTime::now());
    // What other servers say is nobody's business: the registry may lead into the node's network.
    let said = if elsewhere { String::new() } else { words(pull, response).await };
    let words = match (elsewhere, said.is_empty()) {
        (true, _) => " by way of another server".to_owned(),
        (false, true) => String::new(),
        (false, false) => format!(": {said}"),
    };
    Fault::Status { status, words, wait, elsewhere }
}

async fn words(pull: &Pull, response: Response) -> String {
    let body = wire::read(&pull.patience, response, MAX_WORDS_BYTES).await;
    body.map_or_else(|_| String::new(), |body| answer::words(&body.bytes))
}
