//! What `cuddy check` looks at, and how it judges.
//!
//! Every topic is one file with a thin reader of the host and a pure function that turns what
//! was read into a [`Check`]. A topic never fails as such: what can't be read is a finding.

mod cgroup;
mod containerd;
mod containerd_config;
mod containerd_file;
mod containerd_process;
mod containerd_runtime;
mod counters;
mod crio;
mod devices;
mod filesystems;
mod installation;
mod kvm;
mod landlock;
mod memory;
mod namespaces;
mod platform;
pub(crate) mod report;
mod shim;
pub(crate) mod table;
mod templates;

use std::path::PathBuf;

use report::Report;
use serde::Serialize;

/// Where the checks look, as far as the caller may choose.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// containerd's configuration file; without it that of the running containerd, else its
    /// default.
    pub(crate) containerd_config: Option<PathBuf>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// Pods run, but something is missing or unusual.
    Warning,
    /// Pods can't run.
    Failed,
}

/// The finding of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// Stable name of the topic.
    pub(crate) topic: &'static str,
    /// How it came out.
    pub(crate) status: Status,
    /// What was found, in one line.
    pub(crate) found: String,
    /// What to do, possibly of several lines; absent when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) action: Option<String>,
}

impl Check {
    fn ok(topic: &'static str, found: impl Into<String>) -> Self {
        Self { topic, status: Status::Ok, found: found.into(), action: None }
    }

    fn warning(topic: &'static str, found: impl Into<String>, action: impl Into<String>) -> Self {
        Self { topic, status: Status::Warning, found: found.into(), action: Some(action.into()) }
    }

    fn failed(topic: &'static str, found: impl Into<String>, action: impl Into<String>) -> Self {
        Self { status: Status::Failed, ..Self::warning(topic, found, action) }
    }
}

/// Runs every check; takes a few seconds at most, two of them for the probe.
pub(crate) fn run(places: &Places) -> Report {
    let mut checks = vec![platform::check()];
    let kvm = kvm::check();
    checks.extend(kvm.checks);
    checks.extend(devices::check());
    checks.push(filesystems::check());
    checks.push(cgroup::check());
    checks.push(namespaces::check());
    checks.push(landlock::check());
    let (installation, config) = installation::check();
    checks.push(memory::check(config.as_ref()));
    let templates = templates::check(config.as_ref());
    checks.extend(installation);
    checks.extend(templates);
    let containerd = containerd_process::find();
    checks.push(shim::check(&containerd));
    checks.push(containerd::check(&containerd));
    checks.extend(containerd_config::check(&containerd, places.containerd_config.as_deref()));
    checks.extend(crio::check());
    Report::new(checks, kvm.probe)
}
