//! A pod's attachment to its network, which the caller keeps. It holds all that DEL needs: neither
//! a change of the configuration nor a restart can lose it. This module is pure.
//!
//! ```text
//!   Attachment::new ──► caller stores it ──► Plugins::attach ──► caller stores it again
//!                              │                                        │
//!                              └──── Plugins::detach, any number of times ──► caller forgets it
//! ```

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::conf::{Conf, Told};
use crate::error::Error;
use crate::pod::{Capabilities, Pod};
use crate::result::NetworkResult;
use crate::version::Version;

/// A pod's attachment to a network, before or after ADD.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct Attachment {
    conf: Conf,
    id: String,
    netns: PathBuf,
    interface: String,
    args: String,
    capabilities: Capabilities,
    made: Option<Made>,
}

/// What ADD answered, as it came and as it is understood.
#[derive(Debug, Clone, PartialEq)]
struct Made {
    answer: Map<String, Value>,
    result: NetworkResult,
}

/// How it is stored: in texts, so that any format can hold it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    path: PathBuf,
    conf: String,
    id: String,
    netns: PathBuf,
    interface: String,
    args: String,
    capabilities: String,
    result: Option<String>,
}

impl Attachment {
    /// What is about to be attached.
    ///
    /// # Errors
    /// [`Error::Argument`] if a plugin would misunderstand something of the pod.
    pub fn new(conf: &Conf, pod: &Pod) -> Result<Self, Error> {
        Ok(Self {
            conf: conf.clone(),
            args: pod.args()?,
            id: pod.id.clone(),
            netns: pod.netns.clone(),
            interface: pod.interface.clone(),
            capabilities: pod.capabilities.clone(),
            made: None,
        })
    }

    /// The sandbox's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The path of the pod's network namespace.
    pub fn netns(&self) -> &Path {
        &self.netns
    }

    /// The name of the pod's interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The configuration that it was, or will be, made with.
    pub fn conf(&self) -> &Conf {
        &self.conf
    }

    /// What ADD has made; none before it succeeded.
    pub fn result(&self) -> Option<&NetworkResult> {
        self.made.as_ref().map(|made| &made.result)
    }

    /// The addresses by which the pod is reached, see [`NetworkResult::pod_addresses`].
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.result().map(|result| result.pod_addresses(&self.interface)).unwrap_or_default()
    }

    pub(crate) fn args(&self) -> &str {
        &self.args
    }

    pub(crate) fn capabilities(&self) -> &Map<String, Value> {
        self.capabilities.map()
    }

    /// What plugins are told but for ADD: the result, where their version has that.
    pub(crate) fn told(&self) -> Told<'_> {
        let has_result = self.conf.version() >= Version::CHECK;
        let made = self.made.as_ref().filter(|_| has_result);
        let previous = made.map(|made| &made.answer);
        Told { capabilities: Some(self.capabilities()), previous, attachments: None }
    }

    pub(crate) fn made(&mut self, answer: Map<String, Value>, result: NetworkResult) {
        self.made = Some(Made { answer, result });
    }

    pub(crate) fn unmade(&mut self) {
        self.made = None;
    }

    /// How GC tells it to plugins.
    pub(crate) fn valid(&self) -> Value {
        json!({ "containerID": self.id, "ifname": self.interface })
    }
}

impl From<Attachment> for Stored {
    fn from(own: Attachment) -> Self {
        Self {
            path: own.conf.path().to_owned(),
            conf: own.conf.to_json(),
            id: own.id,
            netns: own.netns,
            interface: own.interface,
            args: own.args,
            capabilities: Value::Object(own.capabilities.map().clone()).to_string(),
            result: own.made.map(|made| Value::Object(made.answer).to_string()),
        }
    }
}

impl TryFrom<Stored> for Attachment {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self, Error> {
        let damaged = |problem: String| Error::Argument { what: "a stored attachment", problem };
        let map = |text: &str| {
            serde_json::from_str::<Map<String, Value>>(text)
                .map_err(|error| damaged(error.to_string()))
        };
        let conf = Conf::parse_list(stored.conf.as_bytes(), &stored.path)?.with(Vec::new())?;
        let made = stored.result.as_deref().map(|text| {
            let answer = map(text)?;
            let result = NetworkResult::parse(&answer).map_err(damaged)?;
            Ok::<_, Error>(Made { answer, result })
        });
        Ok(Self {
            conf,
            id: stored.id,
            netns: stored.netns,
            interface: stored.interface,
            args: stored.args,
            capabilities: Capabilities::of(map(&stored.capabilities)?),
            made: made.transpose()?,
        })
    }
}
