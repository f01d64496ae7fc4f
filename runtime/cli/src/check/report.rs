//! All findings together: the case that this machine is, one summary sentence, and the stable
//! structure that `--json` prints (documented in `docs/check.md`).

use serde::Serialize;

use super::kvm::{self, ProbeNumbers};
use super::{Check, Status, platform};

/// Version of the structure; goes up when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// Which of the ways to run Cuddy this machine allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Case {
    /// KVM runs stock guests: machines run directly on this host.
    Direct,
    /// KVM is missing or useless for stock guests: only the lab works.
    Lab,
    /// Not Linux on x86-64, or too old: not even the lab is tested.
    Unsupported,
}

/// Everything that `cuddy check` found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: u32,
    /// Whether this machine can run pods: nothing failed.
    pub(crate) usable: bool,
    case: Case,
    /// The result in one sentence.
    pub(crate) summary: String,
    /// The findings, in the order of the page.
    pub(crate) checks: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<ProbeNumbers>,
}

impl Report {
    /// Puts the findings together.
    pub(super) fn new(checks: Vec<Check>, probe: Option<ProbeNumbers>) -> Self {
        let case = case(&checks);
        let failed: Vec<_> =
            checks.iter().filter(|c| c.status == Status::Failed).map(|c| c.topic).collect();
        let warnings = checks.iter().filter(|c| c.status == Status::Warning).count();
        let summary = summary(case, &failed, warnings);
        Self { schema: SCHEMA, usable: failed.is_empty(), case, summary, checks, probe }
    }
}

fn case(checks: &[Check]) -> Case {
    let failed = |topics: &[&str]| {
        checks.iter().any(|c| c.status == Status::Failed && topics.contains(&c.topic))
    };
    if failed(&[platform::TOPIC]) {
        Case::Unsupported
    } else if failed(&[kvm::DEVICE, kvm::PROBE]) {
        Case::Lab
    } else {
        Case::Direct
    }
}

fn summary(case: Case, failed: &[&str], warnings: usize) -> String {
    match (case, failed) {
        (Case::Unsupported, _) => {
            "This machine can't run pods: Cuddy needs a recent Linux on x86-64.".into()
        }
        (Case::Lab, _) => "This machine can't run pods itself: KVM is missing or can't run a \
             stock guest here, so use the lab."
            .into(),
        (Case::Direct, []) if warnings == 0 => {
            "This machine can run pods directly with KVM.".into()
        }
        (Case::Direct, []) => format!(
            "This machine can run pods directly with KVM; {warnings} of the findings {} a look.",
            if warnings == 1 { "deserves" } else { "deserve" }
        ),
        (Case::Direct, failed) => format!(
            "KVM on this machine can run pods directly, but first put right: {}.",
            failed.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(failed: &[&'static str]) -> Report {
        let topics = [platform::TOPIC, kvm::DEVICE, kvm::PROBE, "shim"];
        let checks = topics.map(|topic| match failed.contains(&topic) {
            true => Check::failed(topic, "bad", "mend it"),
            false => Check::ok(topic, "good"),
        });
        Report::new(checks.to_vec(), None)
    }

    #[test]
    fn the_case_follows_from_platform_and_kvm() {
        assert_eq!(report(&[]).case, Case::Direct);
        assert_eq!(report(&["shim"]).case, Case::Direct);
        assert_eq!(report(&["kvm"]).case, Case::Lab);
        assert_eq!(report(&["kvm-probe", "shim"]).case, Case::Lab);
        assert_eq!(report(&["platform", "kvm"]).case, Case::Unsupported);
    }

    #[test]
    fn usable_means_that_nothing_failed() {
        assert!(report(&[]).usable);
        let not = report(&["shim"]);
        assert!(!not.usable);
        assert!(not.summary.ends_with("put right: shim."), "{}", not.summary);
    }

    #[test]
    fn warnings_leave_a_machine_usable() {
        let checks = vec![Check::warning("tun", "missing", "load it")];
        let report = Report::new(checks, None);
        assert!(report.usable && report.summary.contains("1 of the findings deserves"));
    }

    #[test]
    fn json_keeps_its_documented_shape() {
        let json = serde_json::to_value(report(&["kvm"])).unwrap();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["usable"], false);
        assert_eq!(json["case"], "lab");
        assert_eq!(json["checks"][1]["topic"], "kvm");
        assert_eq!(json["checks"][1]["status"], "failed");
        assert_eq!(json["checks"][1]["action"], "mend it");
        assert!(json["checks"][0].get("action").is_none());
        assert!(json.get("probe").is_none());
    }
}
