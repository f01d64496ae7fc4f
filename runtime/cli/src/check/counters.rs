//! Whether KVM keeps performance counters from guests: they tell of what else runs on a core.

use kvm_bindings::KVM_CAP_PMU_CAPABILITY;
use kvm_ioctls::Kvm;

use super::Check;

const TOPIC: &str = "kvm-counters";

/// Whether KVM has counters to give at all: `Y` or `N`. Since Linux 5.17.
const PARAMETER: &str = "/sys/module/kvm/parameters/enable_pmu";

pub(super) fn check(kvm: &Kvm) -> Check {
    let takes_them = kvm.check_extension_raw(KVM_CAP_PMU_CAPABILITY.into()) > 0;
    let parameter = std::fs::read_to_string(PARAMETER).ok();
    evaluate(takes_them, parameter.as_deref())
}

fn evaluate(takes_them: bool, parameter: Option<&str>) -> Check {
    match (takes_them, parameter.map(str::trim)) {
        (true, _) => Check::ok(TOPIC, "KVM takes performance counters from guests"),
        (false, Some("N" | "0")) => {
            Check::ok(TOPIC, "KVM has no performance counters to give to guests")
        }
        (false, _) => Check::warning(
            TOPIC,
            "this KVM can't take performance counters from guests: on AMD's processors they tell a \
             pod what else runs on its cores",
            "Use Linux 5.18 or newer, or load the module kvm with enable_pmu=0.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn counters_that_nobody_takes_are_told() {
        assert_eq!(evaluate(true, Some("Y\n")).status, Status::Ok);
        assert_eq!(evaluate(false, Some("N\n")).status, Status::Ok);
        for old in [None, Some("Y\n")] {
            let check = evaluate(false, old);
            assert_eq!(check.status, Status::Warning);
            assert!(check.action.unwrap().contains("5.18"));
        }
    }
}
