//! `/dev/kvm`: there, of the right version, with what the VMM needs, and able to run a guest.

use kvm_ioctls::Kvm;
use serde::Serialize;
use vmm_api::kvm::{NEEDED, VERSION, missing};

use super::{Check, counters};
use crate::probe::{self, ProbeError, verdict};

/// Topic of the device; the report's case depends on it.
pub(super) const DEVICE: &str = "kvm";
/// Topic of the probe; the report's case depends on it.
pub(super) const PROBE: &str = "kvm-probe";

const PATH: &str = "/dev/kvm";
const USE_THE_LAB: &str = "Use a host with hardware virtualisation (VMX or SVM, nested is fine). \
     For tests and demos here use the lab: `make run` and `make test` start it by themselves.";

/// Numbers of the probe, for programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ProbeNumbers {
    /// Supervisor-mode instructions a microsecond in the guest.
    pub(crate) guest_instructions_per_us: f64,
    /// The same instructions on the host.
    pub(crate) host_instructions_per_us: f64,
    /// How many times faster the host is.
    pub(crate) slowdown: f64,
}

/// Findings about KVM.
#[derive(Debug)]
pub(super) struct KvmChecks {
    /// One or three checks: without the device there is no more.
    pub(super) checks: Vec<Check>,
    /// Numbers, if the probe got as far as measuring.
    pub(super) probe: Option<ProbeNumbers>,
}

pub(super) fn check() -> KvmChecks {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(e) => {
            let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            return KvmChecks { checks: vec![not_opened(e.errno(), &cpu)], probe: None };
        }
    };
    let missing: Vec<_> = missing(|number| kvm.check_extension_raw(number.into())).collect();
    let version = kvm.get_api_version();
    let device = evaluate(version, &missing);
    if version != VERSION {
        return KvmChecks { checks: vec![device], probe: None };
    }
    let seen = probe::run(&kvm);
    let numbers = seen.as_ref().ok().and_then(|seen| seen.speed).map(|speed| ProbeNumbers {
        guest_instructions_per_us: round(speed.guest_rate()),
        host_instructions_per_us: round(speed.host_rate()),
        slowdown: round(speed.ratio()),
    });
    KvmChecks { checks: vec![device, judge(seen), counters::check(&kvm)], probe: numbers }
}

/// Two decimals are more than the measurement is worth.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Why the device could not be opened, with the advice that fits the processor.
fn not_opened(errno: i32, cpuinfo: &str) -> Check {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let module = match flags.split_whitespace().find(|flag| matches!(*flag, "vmx" | "svm")) {
        Some("vmx") => Some("kvm_intel"),
        Some(_) => Some("kvm_amd"),
        None => None,
    };
    match (errno, module) {
        (libc::EACCES | libc::EPERM, _) => Check::failed(
            DEVICE,
            format!("{PATH} may not be opened by this user"),
            "Run as root, or as a member of the group that owns the device.",
        ),
        (libc::ENOENT | libc::ENODEV | libc::ENXIO, Some(module)) => Check::failed(
            DEVICE,
            format!("{PATH} is missing, though the processor can virtualise"),
            format!(
                "Load the module: `modprobe {module}`. If that fails, enable virtualisation in \
                 the firmware."
            ),
        ),
        (libc::ENOENT | libc::ENODEV | libc::ENXIO, None) => Check::failed(
            DEVICE,
            format!("{PATH} is missing, and the processor shows neither VMX nor SVM"),
            format!("If this is a virtual machine, enable nested virtualisation. {USE_THE_LAB}"),
        ),
        _ => Check::failed(
            DEVICE,
            format!("{PATH}: {}", std::io::Error::from_raw_os_error(errno)),
            format!("Put the real device at {PATH}. {USE_THE_LAB}"),
        ),
    }
}

fn evaluate(version: i32, missing: &[&str]) -> Check {
    if version < 0 {
        return Check::failed(
            DEVICE,
            format!("{PATH} opens but is not KVM"),
            format!("Put the real device at {PATH}. {USE_THE_LAB}"),
        );
    }
    if version != VERSION {
        return Check::failed(
            DEVICE,
            format!("{PATH} speaks version {version}, not {VERSION}"),
            "Upgrade the host's kernel.",
        );
    }
    if !missing.is_empty() {
        return Check::failed(
            DEVICE,
            format!("{PATH} lacks: {}", missing.join(", ")),
            format!("Upgrade the host's kernel. {USE_THE_LAB}"),
        );
    }
    Check::ok(
        DEVICE,
        format!("{PATH}, version {VERSION}, with all {} capabilities needed", NEEDED.len()),
    )
}

fn judge(seen: Result<probe::verdict::Observation, ProbeError>) -> Check {
    let verdict = match seen {
        Ok(seen) => verdict::classify(&seen),
        Err(error) => {
            return Check::failed(PROBE, format!("unusable: {}", chain(&error)), USE_THE_LAB);
        }
    };
    match verdict {
        verdict::Verdict::Usable(_) => Check::ok(PROBE, verdict.words()),
        _ => Check::failed(PROBE, verdict.words(), USE_THE_LAB),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| {
        let cause = cause.to_string();
        if words.ends_with(&cause) { words } else { format!("{words}: {cause}") }
    })
}

#[cfg(test)]
mod tests;
