//! What of a configuration a guest does not carry out: refused where the workload would notice,
//! else left out with a line in the log, never silently. `docs/limits.md` has the list.

use super::{Resources, Spec};

impl Spec {
    /// What is left out, a line each.
    ///
    /// # Errors
    /// The configuration asks for what a workload can't do without.
    pub(crate) fn left_out(&self) -> Result<Vec<&'static str>, String> {
        if let Some(name) = self.linux.net_devices.keys().next() {
            return Err(format!("netDevices: {name:?} of the host cannot be moved into a guest"));
        }
        let mut lines = self.linux.resources.as_ref().map(Resources::left_out).unwrap_or_default();
        if self.linux.memory_policy.is_some() {
            lines.push("memoryPolicy is not applied: a guest has one memory node");
        }
        if self.linux.intel_rdt.is_some() {
            lines.push("intelRdt is not applied: a guest has no share of the processor's cache");
        }
        Ok(lines)
    }
}

impl Resources {
    /// What is left out, a line each.
    pub(crate) fn left_out(&self) -> Vec<&'static str> {
        let swappiness = self.memory.and_then(|memory| memory.swappiness);
        let line = "memory.swappiness is not applied: version 2 of cgroups has no such limit";
        swappiness.map(|_| line).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::oci::Spec;

    fn left_out(linux: &str) -> Result<Vec<&'static str>, String> {
        let spec: Spec = serde_json::from_str(&format!(r#"{{"linux":{linux}}}"#)).unwrap();
        spec.left_out()
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let lines = left_out(
            r#"{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0"},"intelRdt":{"closID":"a"},
            "resources":{"memory":{"swappiness":60}}}"#,
        );
        let lines = lines.unwrap();
        assert_eq!(lines.len(), 3, "{lines:?}");
        for word in ["memoryPolicy", "intelRdt", "swappiness"] {
            assert!(lines.iter().any(|line| line.contains(word)), "{word}: {lines:?}");
        }
        let nothing = r#"{"memoryPolicy":null,"intelRdt":null,"netDevices":null,
            "resources":{"memory":{"limit":1}}}"#;
        assert!(left_out(nothing).unwrap().is_empty());
    }

    #[test]
    fn network_device_of_the_host_is_refused_by_name() {
        let error = left_out(r#"{"netDevices":{"eth7":{"name":"eth0"}}}"#).unwrap_err();
        assert!(error.contains("eth7"), "{error}");
    }
}
