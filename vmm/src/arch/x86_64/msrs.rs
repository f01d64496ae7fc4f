//! Model-specific registers that firmware would have set, for every vCPU. All others start
//! with the value that KVM gives them at reset, and need nothing.

use kvm_bindings::{Msrs, kvm_msr_entry};

/// A register, its value at boot, and why.
struct Initial {
    index: u32,
    value: u64,
    #[allow(dead_code, reason = "a table with reasons: the compiler makes sure none is missing")]
    reason: &'static str,
}

const INITIAL: &[Initial] = &[
    Initial {
        index: 0x1a0, // IA32_MISC_ENABLE
        value: 1,     // fast strings
        reason: "Linux stops using `rep movsb` and `rep stosb` on Intel if firmware left it off",
    },
    Initial {
        index: 0x2ff, // IA32_MTRR_DEF_TYPE
        value: 0x806, // MTRRs on, memory is write-back
        reason: "at reset all memory is uncached, and some KVM versions honour that",
    },
];

/// The registers in the form KVM takes them; `None` only if the table were past KVM's limit.
pub(crate) fn initial() -> Option<Msrs> {
    let entries: Vec<_> = INITIAL
        .iter()
        .map(|msr| kvm_msr_entry { index: msr.index, data: msr.value, ..Default::default() })
        .collect();
    Msrs::from_entries(&entries).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_is_set_once() {
        let msrs = initial().unwrap();
        let mut indices: Vec<_> = msrs.as_slice().iter().map(|msr| msr.index).collect();
        indices.dedup();
        assert_eq!(indices.len(), INITIAL.len());
        assert!(INITIAL.iter().all(|msr| !msr.reason.is_empty()));
    }
}
