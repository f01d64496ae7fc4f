//! Items of the OCI runtime specification in real machines: `ctr run --config` with a configuration
//! of our own, and pods. The agent's tests (`agent/tests/spec.rs`, `limits.rs`) check the items one
//! by one for which any kernel will do. Here is what host and guest must do together, and one
//! container that has nearly everything.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

mod items;
mod users;

use std::path::PathBuf;

use harness::ctr::{Done, Name, RUNTIME, ctr};
use harness::shim::busybox_root;
use serde_json::{Value, json};

/// A bundle's worth: a root directory, and the configuration that containerd gives by default.
pub(crate) struct Bundle {
    dir: tempfile::TempDir,
    pub(crate) name: Name,
    pub(crate) spec: Value,
}

impl Bundle {
    pub(crate) fn new(what: &str, script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = busybox_root(dir.path());
        let mut spec: Value = serde_json::from_str(&ctr(&["oci", "spec"]).ok()).unwrap();
        spec["root"] = json!({"path": root});
        spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
        spec["process"]["env"] = json!(["PATH=/bin"]);
        Self { dir, name: Name::new(what), spec }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds to a list of the configuration.
    pub(crate) fn push(&mut self, pointer: &str, entry: Value) {
        self.spec.pointer_mut(pointer).unwrap().as_array_mut().unwrap().push(entry);
    }

    /// Runs the container to its end and removes it.
    pub(crate) fn run(&self) -> Done {
        let config = self.path("config.json");
        std::fs::write(&config, self.spec.to_string()).unwrap();
        let config = config.display().to_string();
        let fixed = ["run", "--rm", "--runtime", RUNTIME, "--config", &config];
        ctr(&[&fixed[..], &[self.name.as_str()]].concat())
    }
}
