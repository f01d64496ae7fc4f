//! Why a server did not give what it was asked for. Texts are short, and show no secret.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Mismatch;
use crate::manifest::ManifestError;
use crate::redact::redact;
use crate::text::line;

/// Most characters of what a library or a server says.
const MAX_WORDS: usize = 200;

/// Most servers whose failures are told.
const MAX_TOLD: usize = 8;

/// What a failure means to who wanted the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// The registry can't be reached or is in trouble: asking later may help.
    Unavailable,
    /// The registry does not have it.
    NotFound,
    /// The registry does not give it to this user.
    Denied,
    /// What the registry gave is not what it should be, or the node's configuration is not.
    Invalid,
}

/// Why a server did not give what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The node's own files do not allow to ask it.
    #[error("{0}")]
    Setup(String),
    /// There is no connection.
    #[error("it can't be reached: {0}")]
    Unreachable(String),
    /// It did not prove who it is.
    #[error("its certificate is not accepted: {0}")]
    Untrusted(String),
    /// A connection ended too early.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Nothing came.
    #[error("no {what} for {seconds} s")]
    Silent {
        /// What did not come.
        what: &'static str,
        /// For how long.
        seconds: u64,
    },
    /// Too little came.
    #[error("only {bytes} bytes in {seconds} s")]
    Slow {
        /// How much came.
        bytes: u64,
        /// In which time.
        seconds: u64,
    },
    /// An answer that is a refusal.
    #[error("it answered {status}{words}")]
    Status {
        /// HTTP's code.
        status: u16,
        /// What it says to that, with a colon before it. It may be empty.
        words: String,
        /// How long it asks to be left alone.
        wait: Option<Duration>,
        /// Whether it came from another server, to which the registry had sent the request.
        elsewhere: bool,
    },
    /// There is no answer to its question for credentials.
    #[error("{0}")]
    Denied(String),
    /// The server that gives out its tokens failed.
    #[error("{host}, which gives out its tokens: {fault}")]
    Tokens {
        /// That server.
        host: String,
        /// What is wrong with it.
        fault: Box<Fault>,
    },
    /// It leads to where no request may go.
    #[error("its redirect is not followed: {0}")]
    Redirect(String),
    /// It says or sends what can't be true.
    #[error("{0}")]
    Lie(String),
    /// Its document can't be used.
    #[error("{0}")]
    Document(ManifestError),
}

impl Fault {
    /// Whether the same server may do better when it is asked again.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broken(_) | Self::Silent { .. } | Self::Slow { .. } => {
                true
            }
            Self::Status { status, elsewhere, .. } => {
                // The other server's refusal is often of an address that was good for minutes.
                matches!(status, 408 | 425 | 429 | 500..=599)
                    || *elsewhere && matches!(status, 400 | 401 | 403)
            }
            Self::Tokens { fault, .. } => fault.is_passing(),
            _ => false,
        }
    }

    /// What it means to who wanted the image.
    pub fn class(&self) -> Class {
        match self {
            passing if passing.is_passing() => Class::Unavailable,
            Self::Status { status: 404 | 410, .. } => Class::NotFound,
            Self::Status { status: 401..=403, .. } | Self::Denied(_) => Class::Denied,
            Self::Tokens { .. } => Class::Denied,
            _ => Class::Invalid,
        }
    }

    /// How long the server asks to be left alone.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            Self::Tokens { fault, .. } => fault.wait(),
            _ => None,
        }
    }
}

impl From<Mismatch> for Fault {
    fn from(mismatch: Mismatch) -> Self {
        Self::Lie(mismatch.to_string())
    }
}

/// Each server's own failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures(Vec<(String, Fault)>);

impl Failures {
    /// Notes a server's failure, in place of an earlier one.
    pub(super) fn note(&mut self, host: &str, fault: Fault) {
        match self.0.iter_mut().find(|(known, _)| known == host) {
            Some((_, earlier)) => *earlier = fault,
            None => self.0.push((host.to_owned(), fault)),
        }
    }

    /// The servers in the order in which they were asked, each with its last failure.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Fault)> {
        self.0.iter().map(|(host, fault)| (host.as_str(), fault))
    }

    /// What the last server's failure means: it is the registry's own one, where that was asked.
    pub fn class(&self) -> Class {
        self.0.last().map_or(Class::Unavailable, |(_, fault)| fault.class())
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last ones, of which the last one is the registry's own server.
        let left_out = self.0.len().saturating_sub(MAX_TOLD);
        if left_out > 0 {
            write!(formatter, "{left_out} servers failed, and ")?;
        }
        for (index, (host, fault)) in self.0[left_out..].iter().enumerate() {
            let join = if index == 0 { "" } else { "; " };
            write!(
                formatter,
                "{join}{}: {}",
                words(host),
                line(&fault.to_string(), 2 * MAX_WORDS)
            )?;
        }
        Ok(())
    }
}

/// Somebody else's words.
pub(super) fn words(text: &str) -> String {
    line(&redact(text), MAX_WORDS)
}

/// What a failed request means.
pub(super) fn of_request(error: &reqwest::Error) -> Fault {
    let causes = causes(error);
    let certificate = causes.iter().find_map(|cause| {
        let tls = cause.downcast_ref::<rustls::Error>()?;
        matches!(tls, rustls::Error::InvalidCertificate(_)).then(|| words(&tls.to_string()))
    });
    match certificate {
        Some(text) => Fault::Untrusted(text),
        None if error.is_timeout() && error.is_connect() => {
            Fault::Unreachable("connecting took too long".to_owned())
        }
        None if error.is_connect() => Fault::Unreachable(root(error)),
        None => Fault::Broken(root(error)),
    }
}

/// What a failed transfer of a body means.
pub(super) fn of_transfer(error: &reqwest::Error) -> Fault {
    Fault::Broken(root(error))
}

/// Whether a server that was spoken to under TLS does not speak it, or does not listen there.
pub(super) fn is_plain(error: &reqwest::Error, port_is_open: bool) -> bool {
    causes(error).iter().any(|cause| {
        let tls = cause.downcast_ref::<rustls::Error>();
        let refused = cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        matches!(tls, Some(rustls::Error::InvalidMessage(_))) || port_is_open && refused
    })
}

type Cause = dyn std::error::Error + 'static;

/// The error's causes, from the outside in, with those that an input/output error hides.
fn causes(error: &reqwest::Error) -> Vec<&Cause> {
    let mut found = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        found.push(cause);
        let hidden = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match hidden {
            Some(hidden) => Some(hidden),
            None => cause.source(),
        };
    }
    found
}

/// The words of the innermost cause. The outer ones hold the address.
fn root(error: &reqwest::Error) -> String {
    match causes(error).last() {
        Some(cause) => words(&cause.to_string()),
        None => "for an unknown reason".to_owned(),
    }
}
