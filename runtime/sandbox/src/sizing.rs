//! How large a machine is made for its pod (pure, but for what the host is asked). The CPU quota
//! gives the vCPUs. The memory limit plus what guest kernel and agent need gives the memory. The
//! page tables that a large guest takes on the host are subtracted.
//!
//! Limits come from, in this order: annotations of containerd's or CRI-O's on the sandbox
//! container, its own resources, the pod's cgroup.

mod pod_cgroup;

use std::collections::HashMap;

use api::Error;
use host::Config;
pub use host::capacity::Host;
use oci_spec::runtime::{LinuxCpu, LinuxMemory};
use serde_json::Value;
use vmm_api::{MachineConfig, RawMachineConfig};

use crate::spec::Document;

/// Limits that a pod states, from the CRI's annotations on the sandbox container, from the
/// resources of a container that stands alone, or from the pod's cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU time in microseconds per period.
    pub cpu_quota_us: Option<u64>,
    /// Period in microseconds; the kernel's default is 100000.
    pub cpu_period_us: Option<u64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
}

/// A memory limit from here on means "none": the kernel's own `PAGE_COUNTER_MAX` is near.
const NO_LIMIT: u64 = 1 << 62;

const CRI_QUOTA: &str = "io.kubernetes.cri.sandbox-cpu-quota";
const CRI_PERIOD: &str = "io.kubernetes.cri.sandbox-cpu-period";
const CRI_MEMORY: &str = "io.kubernetes.cri.sandbox-memory";

/// Annotations of CRI-O's with the CRI's `LinuxContainerResources` of the pod, as JSON: the newer
/// name and the one before it.
const CRI_O: [&str; 2] = ["pod-linux-resources.crio.io", "io.kubernetes.cri-o.PodLinuxResources"];

/// Memory in MiB that the RuntimeClass's overhead has beyond `memory_overhead_mib`: for shim, VMM
/// and what the host's kernel keeps for them. See deploy/README.md.
pub const OVERHEAD_MIB: u64 = 12;

/// Memory in MiB below which no machine with its shim fits, even if it runs nothing: see "Memory"
/// in docs/performance.md.
pub const LEAST_MIB: u64 = 64;

/// CPU time that the RuntimeClass's overhead has, in thousandths of a CPU.
pub const OVERHEAD_MILLI_CPUS: u64 = 1;

/// Guest memory in MiB whose page tables on the host [`OVERHEAD_MIB`] covers.
const TABLES_COVERED_MIB: u64 = 256;

/// Guest memory that takes one part of page tables on the host. A page of 4096 bytes that the guest
/// has touched takes 8 bytes in the VMM's tables, 8 in KVM's and 9 in the index of the tmpfs. They
/// are charged to the pod's cgroup: one part in 164. The rest is for the tables' own upper levels.
const PART_OF_TABLES: u64 = 128;

impl Limits {
    /// Reads the limits out of an OCI configuration. Zero and negative values mean none.
    ///
    /// # Errors
    /// [`Error::Invalid`] when its annotations or resources are not as OCI has them.
    pub fn from_spec(spec: &Document) -> Result<Self, Error> {
        let own = Self::of_resources(spec)?;
        let annotations = spec.annotations()?;
        let of_cri_o = resources_of_cri_o(&annotations);
        let stated = |key, field: &str| {
            let annotation = annotations.get(key).and_then(|text| text.parse().ok());
            annotation.or_else(|| of_cri_o.get(field)?.as_u64())
        };
        let one = |key, field, own: Option<u64>| {
            stated(key, field).map_or(own, |number| Some(number).filter(|&number| number > 0))
        };
        Ok(Self {
            cpu_quota_us: one(CRI_QUOTA, "cpu_quota", own.cpu_quota_us),
            cpu_period_us: one(CRI_PERIOD, "cpu_period", own.cpu_period_us),
            memory_bytes: one(CRI_MEMORY, "memory_limit_in_bytes", own.memory_bytes)
                .filter(|&bytes| bytes < NO_LIMIT),
        })
    }

    /// Reads the limits of a container alone.
    ///
    /// # Errors
    /// [`Error::Invalid`] when its resources are not as OCI has them.
    pub fn of_resources(spec: &Document) -> Result<Self, Error> {
        let cpu: LinuxCpu = spec.get("/linux/resources/cpu")?.unwrap_or_default();
        let memory: LinuxMemory = spec.get("/linux/resources/memory")?.unwrap_or_default();
        let positive = |number: Option<i64>| u64::try_from(number?).ok().filter(|&n| n > 0);
        Ok(Self {
            cpu_quota_us: positive(cpu.quota()),
            cpu_period_us: cpu.period().filter(|&period| period > 0),
            memory_bytes: positive(memory.limit()).filter(|&bytes| bytes < NO_LIMIT),
        })
    }
}

/// What CRI-O says of the pod; null where it says nothing.
fn resources_of_cri_o(annotations: &HashMap<String, String>) -> Value {
    let text = CRI_O.iter().find_map(|key| annotations.get(*key));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The shape of the machine for a pod with these limits. More CPUs than the host has would only
/// wait for each other.
///
/// # Errors
/// [`Error::Invalid`] when the machine would be larger than the host or than a machine can be.
pub fn machine(config: &Config, limits: Limits, host: Host) -> Result<MachineConfig, Error> {
    let vcpus = limits.cpu_quota_us.map_or(config.default_vcpus, |quota| {
        let period = limits.cpu_period_us.unwrap_or(100_000);
        u32::try_from(quota.div_ceil(period)).unwrap_or(u32::MAX).clamp(1, 32)
    });
    let vcpus = vcpus.min(host.cpus);
    let host_mib = host.memory_mib;
    let wanted = limits.memory_bytes.map_or(config.default_memory_mib, |bytes| {
        without_tables(bytes.div_ceil(1 << 20) + config.memory_overhead_mib)
    });
    // The guest's memory hot-plug granule: odd sizes cost the kernel split page tables.
    let memory_mib = wanted.next_multiple_of(2).max(64);
    if memory_mib > host_mib {
        return Err(Error::Invalid(format!(
            "the pod needs a machine of {memory_mib} MiB of memory, the host has {host_mib} MiB"
        )));
    }
    let raw = RawMachineConfig {
        vcpus,
        memory_mib,
        extra_cmdline: config.extra_cmdline.clone(),
        early_serial: config.debug,
    };
    MachineConfig::try_from(raw).map_err(|error| Error::Invalid(error.to_string()))
}

/// What the containers of a pod may use together in a machine of `machine` MiB, or in one of the
/// `class` of its template, in bytes; 0 for as much as there is. The pod's own limit holds whatever
/// the size of its machine. A pod without one may not use what only the class has; what kernel and
/// agent need is not the pod's.
pub fn containers_limit(config: &Config, limits: Limits, machine: u64, class: u64) -> u64 {
    if let Some(bytes) = limits.memory_bytes {
        return bytes;
    }
    let needed = config.memory_overhead_mib.min(machine / 2);
    if class > machine { (machine - needed) << 20 } else { 0 }
}

/// What is left of `mib` MiB for a guest whose page tables on the host have to fit in as well.
fn without_tables(mib: u64) -> u64 {
    mib - mib.saturating_sub(TABLES_COVERED_MIB).div_ceil(PART_OF_TABLES)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use host::config::RawConfig;
    use serde_json::json;

    use super::*;

    const HOST: Host = Host { memory_mib: 8192, cpus: 4 };

    fn config() -> Config {
        let here = Path::new("/opt/cuddy");
        Config::new(RawConfig::default(), here, here).unwrap()
    }

    #[test]
    fn no_limits_take_the_defaults() {
        let machine = machine(&config(), Limits::default(), HOST).unwrap();
        assert_eq!((machine.vcpus().get(), machine.memory().get()), (1, 512));
    }

    #[test]
    fn quota_rounds_up_and_memory_gets_the_overhead() {
        let spec = json!({"linux": {"resources": {
            "cpu": {"quota": 150_000, "period": 100_000}, "memory": {"limit": 100 << 20}
        }}});
        let machine = machine(&config(), Limits::from_spec(&spec.into()).unwrap(), HOST).unwrap();
        assert_eq!((machine.vcpus().get(), machine.memory().get()), (2, 228));
    }

    #[test]
    fn annotations_of_the_sandbox_come_before_its_own_resources() {
        let spec = json!({
            "annotations": {"io.kubernetes.cri.sandbox-memory": "1073741824"},
            "linux": {"resources": {"memory": {"limit": 1}}}
        });
        assert_eq!(Limits::from_spec(&spec.into()).unwrap().memory_bytes, Some(1 << 30));
    }

    #[test]
    fn annotations_of_cri_o_are_the_kubelets_numbers() {
        for key in CRI_O {
            let limits = |resources: &str| {
                let spec = json!({
                    "annotations": {key: resources},
                    "linux": {"resources": {"cpu": {"shares": 2}}}
                });
                Limits::from_spec(&spec.into()).unwrap()
            };
            let stated = limits(
                r#"{"cpu_period":100000,"cpu_quota":50000,"cpu_shares":512,
                    "memory_limit_in_bytes":268435456,"unified":{}}"#,
            );
            assert_eq!((stated.cpu_quota_us, stated.cpu_period_us), (Some(50_000), Some(100_000)));
            assert_eq!(stated.memory_bytes, Some(256 << 20));
            for nothing in ["{}", "null", "", r#"{"cpu_quota":-1,"cpu_shares":2}"#] {
                assert_eq!(limits(nothing), Limits::default(), "{nothing}");
            }
        }
    }

    #[test]
    fn unlimited_is_not_a_size() {
        let spec = json!({"linux": {"resources": {
            "cpu": {"quota": -1}, "memory": {"limit": 9_223_372_036_854_771_712_u64}
        }}});
        assert_eq!(Limits::from_spec(&spec.into()), Ok(Limits::default()));
    }

    /// A guest that has touched all of its memory, with what was measured of shim, VMM and kernel
    /// (deploy/README.md), stays within limit and overhead of the RuntimeClass.
    #[test]
    fn guest_and_its_tables_fit_into_the_pods_cgroup() {
        const MEASURED: f64 = 7.8;
        const ROOM: f64 = 1.5;
        let host = Host { memory_mib: 1 << 20, cpus: 4 };
        for mib in (1..=65_536).step_by(61) {
            let limits = Limits { memory_bytes: Some(mib << 20), ..Limits::default() };
            let guest = machine(&config(), limits, host).unwrap().memory().get();
            let guest = f64::from(guest);
            let pod = u32::try_from(mib + config().memory_overhead_mib + OVERHEAD_MIB).unwrap();
            let taken = guest * (1.0 + 25.0 / 4096.0) + MEASURED;
            assert!(taken + ROOM <= f64::from(pod), "{mib} MiB: {taken} of {pod}");
        }
        let small = Limits { memory_bytes: Some(128 << 20), ..Limits::default() };
        assert_eq!(machine(&config(), small, HOST).unwrap().memory().get(), 256);
        let large = Limits { memory_bytes: Some(1 << 30), ..Limits::default() };
        assert_eq!(machine(&config(), large, HOST).unwrap().memory().get(), 1146);
    }

    #[test]
    fn machine_larger_than_the_host_is_refused_with_both_sizes() {
        let limits = Limits { memory_bytes: Some(16 << 30), ..Limits::default() };
        let error = machine(&config(), limits, HOST).unwrap_err().to_string();
        assert!(error.contains("16386 MiB") && error.contains("8192 MiB"), "{error}");
    }

    #[test]
    fn what_only_the_class_has_is_not_the_pods() {
        let limit = |memory_bytes, machine, class| {
            let limits = Limits { memory_bytes, ..Limits::default() };
            containers_limit(&config(), limits, machine, class)
        };
        assert_eq!(limit(Some(100 << 20), 228, 256), 100 << 20);
        assert_eq!(limit(Some(384 << 20), 512, 512), 384 << 20);
        assert_eq!(limit(None, 512, 512), 0);
        assert_eq!(limit(None, 500, 512), 372 << 20);
        assert_eq!(limit(None, 64, 128), 32 << 20);
    }

    #[test]
    fn machine_has_no_more_cpus_than_the_host() {
        let limits = Limits { cpu_quota_us: Some(1_600_000), ..Limits::default() };
        assert_eq!(machine(&config(), limits, HOST).unwrap().vcpus().get(), 4);
    }
}
