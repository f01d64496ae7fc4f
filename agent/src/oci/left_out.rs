//! Parts of a configuration that a guest does not carry out. A part is refused where the workload
//! would notice. Otherwise it is left out with a line in the log, never silently. `docs/limits.md`
//! has the list.

use super::{NamespaceType, Process, Resources, Spec, capability};

impl Spec {
    /// What is left out, a line each.
    ///
    /// # Errors
    /// The configuration asks for what a workload can't do without.
    pub(crate) fn left_out(&self) -> Result<Vec<String>, String> {
        if let Some(name) = self.linux.net_devices.keys().next() {
            return Err(format!("netDevices: {name:?} of the host cannot be moved into a guest"));
        }
        self.check_namespaces()?;
        let mut lines = self.linux.resources.as_ref().map(Resources::left_out).unwrap_or_default();
        if self.linux.memory_policy.is_some() {
            lines.push("memoryPolicy is not applied: a guest has one memory node".into());
        }
        if self.linux.intel_rdt.is_some() {
            let reason = "a guest has no share of the processor's cache";
            lines.push(format!("intelRdt is not applied: {reason}"));
        }
        lines.extend(self.process.as_ref().map(Process::left_out).unwrap_or_default());
        Ok(lines)
    }

    /// What belongs to a namespace needs one, as with runc: a container without its id maps would
    /// be the guest's root.
    fn check_namespaces(&self) -> Result<(), String> {
        let linux = &self.linux;
        for (name, map) in
            [("uidMappings", &linux.uid_mappings), ("gidMappings", &linux.gid_mappings)]
        {
            if !map.is_empty() && linux.namespace(NamespaceType::User).is_none() {
                return Err(format!("{name} without a user namespace"));
            }
        }
        if !linux.time_offsets.is_empty() && !linux.is_new(NamespaceType::Time) {
            return Err("timeOffsets without a time namespace of its own".to_owned());
        }
        Ok(())
    }
}

impl Process {
    /// What is left out, a line each.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let unknown = self.capabilities.as_ref().map(capability::unknown);
        let names = unknown.into_iter().flatten();
        names.map(|name| format!("capability {name:?} is unknown and ignored")).collect()
    }
}

impl Resources {
    /// What is left out, a line each.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let memory = self.memory.unwrap_or_default();
        let cpu = self.cpu.as_ref();
        let io = self.block_io.as_ref();
        #[allow(deprecated, reason = "a limit of old kernels, of which the caller is told")]
        let kernel = memory.kernel();
        let is = [
            ("memory.swappiness", memory.swappiness().is_some()),
            ("memory.kernel", kernel.is_some_and(|limit| limit > 0)),
            ("memory.kernelTCP", memory.kernel_tcp().is_some_and(|limit| limit > 0)),
            ("memory.disableOOMKiller", memory.disable_oom_killer() == Some(true)),
            (
                "cpu.realtimeRuntime",
                cpu.is_some_and(|cpu| cpu.realtime_runtime().is_some_and(is_set)),
            ),
            (
                "cpu.realtimePeriod",
                cpu.is_some_and(|cpu| cpu.realtime_period().is_some_and(is_set)),
            ),
            ("blockIO.leafWeight", io.is_some_and(|io| io.leaf_weight().is_some_and(is_set))),
        ];
        let lines = is.into_iter().filter(|(_, is)| *is);
        let reason = "version 2 of cgroups has no such limit";
        lines.map(|(name, _)| format!("{name} is not applied: {reason}")).collect()
    }
}

/// Go programs write 0 for what is not there.
fn is_set<T: Default + PartialEq>(value: T) -> bool {
    value != T::default()
}

#[cfg(test)]
mod tests {
    use crate::oci::Spec;

    fn left_out(linux: &str) -> Result<Vec<String>, String> {
        let spec: Spec = serde_json::from_str(&format!(r#"{{"linux":{linux}}}"#)).unwrap();
        spec.left_out()
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let lines = left_out(
            r#"{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0"},"intelRdt":{"closID":"a"},
            "resources":{"memory":{"swappiness":60,"kernel":7,"kernelTCP":7,"disableOOMKiller":true},
            "cpu":{"realtimeRuntime":1,"realtimePeriod":2},"blockIO":{"leafWeight":10}}}"#,
        );
        let lines = lines.unwrap();
        assert_eq!(lines.len(), 9, "{lines:?}");
        for word in ["memoryPolicy", "intelRdt", "swappiness", "kernelTCP", "leafWeight"] {
            assert!(lines.iter().any(|line| line.contains(word)), "{word}: {lines:?}");
        }
        let nothing = r#"{"memoryPolicy":null,"intelRdt":null,"netDevices":null,
            "resources":{"memory":{"limit":1,"kernel":-1,"disableOOMKiller":false},
            "cpu":{"realtimePeriod":0}}}"#;
        assert!(left_out(nothing).unwrap().is_empty());
    }

    #[test]
    fn unknown_capability_is_said_once() {
        let spec = r#"{"process":{"capabilities":{"bounding":["CAP_FLY","CAP_KILL"],
            "effective":["CAP_FLY"]}}}"#;
        let lines = serde_json::from_str::<Spec>(spec).unwrap().left_out().unwrap();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("CAP_FLY"), "{lines:?}");
    }

    #[test]
    fn what_belongs_to_a_namespace_needs_it() {
        let map = r#"[{"containerID":0,"hostID":1000,"size":1}]"#;
        for (field, value, kind) in [
            ("uidMappings", map, "user"),
            ("gidMappings", map, "user"),
            ("timeOffsets", r#"{"boottime":{"secs":1}}"#, "time"),
        ] {
            let with = |namespaces: String| {
                left_out(&format!(r#"{{"{field}":{value},"namespaces":[{namespaces}]}}"#))
            };
            let error = with(r#"{"type":"pid"}"#.to_owned()).unwrap_err();
            assert!(error.contains(field), "{error}");
            assert!(with(format!(r#"{{"type":"{kind}"}}"#)).is_ok(), "{field}");
            let joined = with(format!(r#"{{"type":"{kind}","path":"/proc/1/ns/{kind}"}}"#));
            assert_eq!(joined.is_ok(), kind == "user", "{field}");
        }
        assert!(left_out(r#"{"uidMappings":[],"timeOffsets":{}}"#).is_ok());
    }

    #[test]
    fn network_device_of_the_host_is_refused_by_name() {
        let error = left_out(r#"{"netDevices":{"eth7":{"name":"eth0"}}}"#).unwrap_err();
        assert!(error.contains("eth7"), "{error}");
    }
}
